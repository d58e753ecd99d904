"""The report of a run: its files, and a page that needs nothing else."""

from __future__ import annotations

import json
import re
import subprocess
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from naive_metrics import small_model

from feature_alignment.data import DataOptions, TrainingData, load
from feature_alignment.metrics import classifier, evaluate
from feature_alignment.models import FA, VAE, VFA, Model
from feature_alignment.report import provenance, run_report, write_report
from feature_alignment.training import Run, TrainingOptions, fit

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


def few(count):
    split = load("mnist-mini", "test")
    return replace(split, pixels=split.pixels[:count], labels=split.labels[:count])


@pytest.fixture
def quick(monkeypatch):
    """Train the classifier of the measures for ten updates."""
    full = classifier._trained
    monkeypatch.setattr(classifier, "_trained", lambda network, train, steps: full(network, train, 10))


def report(directory, model, test):
    run = Run(directory)
    run.log.write_text("epoch,step,loss\n0,9,2.0\n0,19,1.0\n")
    write_report(run, model, load("mnist-mini", "train"), test, {"steps": 20, "seconds": 1.5, "device": "abacus"}, 3)
    return re.findall(r'<img alt="(.*?)" src="data:image/png;base64,', run.report.read_text())


@pytest.mark.parametrize("count", [1, 2, 4])
def test_a_report_needs_no_more_than_one_held_out_image(count, tmp_path, quick):
    words = "interpolation.png: left out of the report: it needs 4 held-out images, there are"
    with pytest.warns(UserWarning, match=words) if count < 4 else nullcontext():
        pictures = report(tmp_path, small_model(VFA), few(count))
    assert pictures == [name for name in PICTURES if count == 4 or name != "interpolation.png"]


def test_a_picture_that_fails_is_left_out_with_a_line_and_an_old_one_is_not_shown(tmp_path, quick, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("no such\npicture")

    monkeypatch.setattr(run_report, "sample_picture", broken)
    (tmp_path / "samples.png").write_bytes(b"of another time")
    with pytest.warns(UserWarning, match="samples.png: left out of the report: no such picture"):
        pictures = report(tmp_path, small_model(VFA), few(4))
    assert pictures == [name for name in PICTURES if name != "samples.png"]


def test_undecodable_bytes_of_a_name_are_on_the_page(tmp_path, quick):
    (tmp_path / "config.yaml").write_text("data:\n  name: x\n")
    test = replace(few(4), name="folder\udcff")
    report(tmp_path, small_model(VFA), test)
    assert r"VFA on folder\udcff" in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize("precision", ["bf16-true", "16-true", "64-true"])
def test_a_model_trained_in_any_precision_reports_what_its_saved_files_give(precision, tmp_path, quick):
    model, run = small_model(VFA), Run(tmp_path / "run")
    options = TrainingOptions(steps=2, log_every=1, accelerator="cpu", devices=1, precision=precision)
    done = fit(model, TrainingData(DataOptions(batch_size=16)), run, options)
    write_report(run, model, load("mnist-mini", "train"), few(4), done, 3)
    loaded = Model.from_pretrained(run.directory)
    assert model.dtype == loaded.dtype == torch.float32
    test = few(4)
    assert torch.equal(loaded.reconstruct(test.images(), test.labels), model.reconstruct(test.images(), test.labels))
    assert loaded.sample(2).isfinite().all()
    assert len(list(run.directory.glob("*.png"))) == 4


def test_a_report_does_not_depend_on_what_was_drawn_before(tmp_path, quick):
    """A start of noise draws from the global generator; a resumed training leaves it elsewhere."""
    found = []
    for seed in (1, 2):
        torch.manual_seed(0)
        model = FA((1, 28, 28), latent=3, channels=(4, 4), width=8, start="normal").eval()
        torch.manual_seed(seed)
        (tmp_path / str(seed)).mkdir()
        report(tmp_path / str(seed), model, few(4))
        found.append((tmp_path / str(seed) / "metrics.json").read_text())
    assert found[0] == found[1]


def test_the_commit_is_of_our_source_and_not_of_a_project_it_is_installed_in(tmp_path, monkeypatch):
    def git(*arguments):
        who = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
        done = subprocess.run(["git", *who, *arguments], cwd=tmp_path, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    source = tmp_path / "venv" / "provenance.py"
    source.parent.mkdir()
    source.touch()
    monkeypatch.setattr(provenance, "__file__", str(source))
    assert provenance.commit() is None
    git("init")
    git("commit", "--allow-empty", "-m", "of another project")
    assert provenance.commit() is None
    git("add", ".")
    git("commit", "-m", "ours")
    assert provenance.commit() == git("rev-parse", "HEAD")
