"""The command `falign reproduce`: the whole chain at its smallest scale, on real digits and on colour images."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import signal
import statistics
import subprocess
import sys
import time
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from PIL import Image

from feature_alignment.cli.main import main
from feature_alignment.data import load
from feature_alignment.models import Model
from feature_alignment.reproduce import TARGETS
from feature_alignment.reproduce.settings import setting
from feature_alignment.training import Run, loop

MODELS = ("ae", "vae", "gan", "shared", "vfa-gan", "vfa-2d", "local")


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """Everything the paper has for MNIST, on digits, two seeds, next to no training."""
    out = tmp_path_factory.mktemp("reproduction")
    assert main(["reproduce", "all", "--data=mnist-mini", "--scale=smoke", "--seeds", "0", "1", f"--out={out}"]) == 0
    return out


def found(out, target, data="mnist-mini"):
    return json.loads((out / data / f"{target}.json").read_text())


def test_one_figure_is_made_with_its_numbers_its_picture_and_the_page(tmp_path):
    command = ["reproduce", "fig13", "--data=mnist-mini", "--scale=smoke", "--seeds", "0", f"--out={tmp_path}"]
    assert main(command) == 0
    result = found(tmp_path, "fig13")
    error = json.loads((tmp_path / "runs" / "mnist-mini" / "local-seed0" / "metrics.json").read_text())
    assert result["table"]["rows"]["local"][0]["values"] == [error["reconstruction_error"]["feature"]]
    with Image.open(tmp_path / "mnist-mini" / "fig13.png") as image:
        image.load()
    assert f"{error['reconstruction_error']['feature']:.4g}" in (tmp_path / "report.html").read_text()
    assert "fig13" in (tmp_path / "report.md").read_text()


@pytest.mark.slow
def test_all_makes_every_table_and_figure_of_mnist_with_pictures(digits):
    names = {"table1", "fig5a", "fig5b", "fig6", "fig7", "fig12", "fig13", "appendix-a"}
    assert {path.stem for path in (digits / "mnist-mini").glob("*.json")} == names
    for name in names:
        result = found(digits, name)
        assert result["pictures"]
        for picture in result["pictures"]:
            with Image.open(digits / "mnist-mini" / picture) as image:
                image.load()
                assert min(image.size) > 100
        assert (result["data"], result["scale"], result["seeds"]) == ("mnist-mini", "smoke", [0, 1])
    assert {path.name for path in (digits / "runs" / "mnist-mini").iterdir()} == {
        "images.txt",
        *(f"{model}-seed{seed}" for model in MODELS for seed in (0, 1)),
    }


@pytest.mark.slow
def test_numbers_are_those_of_the_runs_over_the_seeds(digits):
    rows, bars = found(digits, "table1")["table"]["rows"], found(digits, "fig12")["table"]["rows"]
    for method, model, stage in (
        ("VAE", "vae", "decoded"), ("GAN", "gan", "decoded"), ("feature", "vfa-gan", "feature"),
        ("refined", "vfa-gan", "refined"), ("refined (shared start)", "shared", "refined"),
    ):  # fmt: skip
        runs = [digits / "runs" / "mnist-mini" / f"{model}-seed{seed}" for seed in (0, 1)]
        metrics = [json.loads((run / "metrics.json").read_text()) for run in runs]
        distances = [each["classifier_fid"][stage] for each in metrics]
        assert distances[0] != distances[1]
        assert rows[method][0]["values"] == distances
        assert rows[method][0]["mean"] == pytest.approx(sum(distances) / 2)
        assert rows[method][0]["std"] == pytest.approx(abs(distances[0] - distances[1]) / math.sqrt(2))
        errors = [each["reconstruction_error"][stage] for each in metrics]
        assert bars[method][0]["mean"] == pytest.approx(statistics.fmean(errors))
    test = load("mnist-mini", "test")
    spread = np.linspace(0, 499, 100).round().astype(int).tolist()
    images = test.images()[spread]
    error = (images - Model.from_pretrained(runs[0].parent / "ae-seed1").reconstruct(images)).square().sum((1, 2, 3))
    assert bars["AE"][0]["values"][1] == pytest.approx(float(error.mean()), rel=1e-4)


@pytest.mark.slow
def test_the_papers_numbers_stand_beside(digits):
    """Table 1's column for MNIST, typed here from the paper."""
    result = found(digits, "table1")
    assert result["compared_with"] == "MNIST"
    paper = {
        "VAE": (39.84, 0.15), "GAN": (21.50, 2.79),
        "feature (shared start)": (120.02, 1.11), "refined (shared start)": (41.24, 2.71),
    }  # fmt: skip
    for method, numbers in paper.items():
        last = result["table"]["rows"][method][-1]
        assert (last["mean"], last["std"]) == numbers
    assert all(result["table"]["rows"][method][-1] is None for method in ("feature", "refined"))  # not the paper's
    assert any("not" in note and "comparable" in note for note in result["notes"])
    text = (digits / "mnist-mini" / "table1.md").read_text()
    assert "| 39.84 ± 0.15 |" in text
    assert "classifier FID" in text


@pytest.mark.slow
def test_one_page_shows_everything_and_needs_nothing_else(digits):
    class Sources(HTMLParser):
        found: list[str] = []  # noqa: RUF012

        def handle_starttag(self, tag, attributes):
            self.found += [value for name, value in attributes if name in ("src", "href")]

    page, parser = (digits / "report.html").read_text(), Sources()
    parser.feed(page)
    pictures = sum(len(json.loads(path.read_text())["pictures"]) for path in digits.glob("*/*.json"))
    assert len(parser.found) == pictures > 10
    assert all(source.startswith("data:image/png;base64,") for source in parser.found)
    text = (digits / "report.md").read_text()
    for target in ("table1", "fig5a", "fig13", "appendix-a"):
        assert f"## {target}, mnist-mini" in text
    for picture in re.findall(r"\]\((.*?)\)", text):
        assert (digits / picture).is_file()


@pytest.mark.slow
def test_finished_runs_are_used_again(digits, capsys):
    before = {path: path.stat().st_mtime_ns for path in digits.glob("runs/*/*/model.safetensors")}
    numbers = found(digits, "fig12")["table"]
    command = ["reproduce", "fig12", "--data=mnist-mini", "--scale=smoke", "--seeds", "0", "1", f"--out={digits}"]
    assert main(command) == 0
    assert "ae, seed 1: trained before" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert found(digits, "fig12")["table"] == numbers


@pytest.mark.slow
def test_runs_of_another_setting_are_not_mistaken_for_these(digits, capsys):
    assert main(["reproduce", "fig13", "--data=mnist-mini", "--scale=cpu", "--seeds=0", f"--out={digits}"]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert "local-seed0: was trained with other settings; remove it or choose another --out" in said[-1]


@pytest.mark.parametrize("target", [["fig13"], ["quality", "--part=table", "--models=ae", "--latents=2"]])
def test_a_reproduction_that_is_told_to_end_says_how_it_goes_on(target, tmp_path, monkeypatch, capsys, heard):
    heard(signal.SIGTERM)
    step = loop.FabricUpdates.step

    def told(updates, *batch):
        signal.raise_signal(signal.SIGTERM)
        return step(updates, *batch)

    monkeypatch.setattr(loop.FabricUpdates, "step", told)
    command = ["reproduce", *target, "--data=mnist-mini", "--scale=smoke", "--seeds=0", f"--out={tmp_path}"]
    assert main(command) == 128 + signal.SIGTERM
    said = capsys.readouterr().err.splitlines()[-1]
    assert "stopped" in said
    assert said.endswith("; the same command goes on from there")
    assert "--resume" not in said


@pytest.mark.slow
def test_a_killed_reproduction_goes_on_where_it_was(tmp_path, monkeypatch):
    command = [sys.executable, "-m", "feature_alignment", "reproduce", "fig13", "--data=mnist-mini",
               "--scale=cpu", "--seeds=0", f"--out={tmp_path}"]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    run = tmp_path / "runs" / "mnist-mini" / "local-seed0"
    checkpoint, deadline = run / "checkpoints" / "last.ckpt", time.time() + 180
    while not checkpoint.is_file() and process.poll() is None and time.time() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert torch.load(checkpoint, weights_only=True)["updates"] >= 250
    assert not (run / "report.html").exists()
    # To its end, which is moved nearer: what is asked and what was asked stay the same.
    monkeypatch.setattr(
        "feature_alignment.reproduce.study.setting",
        lambda *arguments: dataclasses.replace(setting(*arguments), steps=260),
    )
    asked = (run / "config.yaml").read_text()
    assert "\n  steps: 1500\n" in asked
    (run / "config.yaml").write_text(asked.replace("\n  steps: 1500\n", "\n  steps: 260\n"))
    assert main(command[3:]) == 0
    assert json.loads((run / "metrics.json").read_text())["steps"] == 260
    steps = [int(row["step"]) for row in Run(run).rows()]
    assert steps == sorted(set(steps))  # nothing was done twice
    assert steps[0] < 10
    assert 250 <= steps[-1] < 260
    assert (tmp_path / "mnist-mini" / "fig13.png").is_file()


@pytest.mark.slow
def test_figures_of_celeba_and_cifar_on_a_folder_without_classes(tmp_path, capsys):
    rng = np.random.default_rng(0)
    (tmp_path / "faces").mkdir()
    for number in range(130):
        picture = np.kron(rng.integers(0, 256, (4, 4, 3)), np.ones((16, 16, 1))).astype(np.uint8)
        Image.fromarray(picture).save(tmp_path / "faces" / f"{number}.png")
    options = [f"--data={tmp_path / 'faces'}", "--scale=smoke", "--seeds=3", f"--out={tmp_path / 'out'}"]
    for target in ("fig8", "fig9", "fig10", "fig11", "fig15", "fig5a", "table1"):
        assert main(["reproduce", target, *options]) == 0
    result = found(tmp_path / "out", "table1", "faces")
    assert result["compared_with"] == "CelebA"
    assert result["table"]["rows"]["VAE"][-1]["mean"] == 84.84
    assert len(found(tmp_path / "out", "fig9", "faces")["pictures"]) == 2
    assert "mnist" not in (tmp_path / "out" / "report.md").read_text()
    capsys.readouterr()
    assert main(["reproduce", "fig5b", *options]) == 2
    assert "fig5b: needs a data set with classes, faces has none" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fig4"], "target 'fig4': expected one of table1, fig5a"),
        (["table1", "--scale", "huge"], "scale"),
        (["table1", "--seeds", "1", "1"], "--seeds: expected different numbers of at least 0, got 1 1"),
        (["table1", "--data", "nowhere"], "data set 'nowhere': neither"),
        (["fig10", "--fid", "yes"], "--fid yes: FID and KID need the weights"),
    ],
)
def test_mistakes_are_one_line(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("feature_alignment.metrics.inception_weights", lambda: tmp_path / "none.pth")
    assert main(["reproduce", *arguments]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("falign: error")]
    assert len(lines) == 1
    assert message in lines[0]


def test_every_table_and_figure_has_a_target():
    numbered = {"fig5a", "fig5b", *(f"fig{number}" for number in range(6, 16))}
    assert set(TARGETS) == numbered | {"table1", "appendix-a"}
