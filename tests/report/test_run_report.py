"""The report of a run: its files, and a page that needs nothing else."""

from __future__ import annotations

import json
import re

import pytest
from naive_metrics import small_model

from feature_alignment.data import load
from feature_alignment.metrics import evaluate
from feature_alignment.models import VAE, VFA
from feature_alignment.report import write_report
from feature_alignment.training import Run

PICTURES = ["reconstructions.png", "samples.png", "interpolation.png", "losses.png"]
#: What is measured of a conditional model without Inception, in the order shown.
TAKEN = ["reconstruction_error", "psnr", "ssim", "classifier_fid", "class_agreement"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The directory of a run whose model was never trained, with its report."""
    run = Run(tmp_path_factory.mktemp("runs") / "a & b")
    run.directory.mkdir()
    run.config.write_text("data:\n  name: <mnist-mini>\n")
    run.log.write_text("epoch,step,loss\n0,9,2.0\n0,19,1.0\n")
    splits = load("mnist-mini", "train"), load("mnist-mini", "test")
    training = {"steps": 20, "seconds": 1.5, "device": "abacus"}
    write_report(run, small_model(VFA), *splits, training, 3, limit=12)
    return run


def test_what_was_measured_is_what_evaluate_says_and_how_the_run_was_made(run):
    found = run.results()
    measured = evaluate(small_model(VFA), load("mnist-mini", "train"), load("mnist-mini", "test"), seed=3, limit=12)
    assert measured == {name: found[name] for name in measured}
    assert (found["steps"], found["seconds"], found["device"], found["model"]) == (20, 1.5, "abacus", "VFA")


def test_the_page_holds_its_pictures_and_escapes_names(run):
    page = run.report.read_text()
    assert sorted(path.name for path in run.directory.glob("*.png")) == sorted(PICTURES)
    assert re.findall(r'<img alt="(.*?)" src="data:image/png;base64,', page) == PICTURES
    assert page.count("src=") == page.count("<img") == 4
    assert "<title>a &amp; b</title>" in page
    assert "name: &lt;mnist-mini&gt;" in page
    assert "VFA on mnist-mini: 20 steps in 2 s on abacus; 12 held-out images, 12 samples, seed 3" in page


def test_the_page_has_a_line_a_measure_with_its_numbers(run):
    page, found = run.report.read_text(), json.loads(run.metrics.read_text())
    lines = [re.sub(r"<.*?>", " ", line).split() for line in page.split("<tr>")[2:]]
    taken = [
        name for name in ("reconstruction_error", "psnr", "ssim", "classifier_fid", "class_agreement") if name in found
    ]
    assert len(lines) == len(taken) == 5
    for line, name in zip(lines, taken, strict=True):
        numbers = [f"{found[name][stage]:.3g}" for stage in ("feature", "reference")]
        place = line.index("better)") + 1
        assert line[place : place + 2] == numbers


def test_a_conditional_vae_is_reported_with_its_classes(tmp_path):
    run = Run(tmp_path / "vae")
    run.directory.mkdir()
    run.config.write_text("data:\n  name: mnist-mini\n")
    run.log.write_text("epoch,step,loss\n0,9,2.0\n0,19,1.0\n")
    splits = load("mnist-mini", "train"), load("mnist-mini", "test")
    model = VAE((1, 28, 28), 4, channels=(4, 8), width=16, classes=10).eval()
    write_report(run, model, *splits, {"steps": 20, "seconds": 1.5, "device": "abacus"}, 3, limit=12)
    found = run.results()
    assert set(TAKEN) <= set(found)
    assert 0 <= found["class_agreement"]["decoded"] <= 1
    assert all((run.directory / name).is_file() for name in PICTURES)
