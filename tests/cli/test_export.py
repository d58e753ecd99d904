"""A run as files for other programs, and on the Hub."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from hub_layout import cached
from huggingface_hub import ModelCard, constants

from feature_alignment.cli.main import main
from feature_alignment.models import Model


@pytest.fixture
def pushed(run, tmp_path, monkeypatch):
    """The repository owner/name in the Hub library's cache, as it would be after a push; the working directory."""
    assert main(["push", str(run), "owner/name", "--licence=cc-by-4.0", f"--out={tmp_path / 'pushed'}"]) == 0
    cached(tmp_path / "pushed", tmp_path / "hub", "owner/name")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "pushed"


def test_the_card_has_data_metrics_pictures_and_licence(run, pushed):
    card, metrics = ModelCard.load(pushed / "README.md"), json.loads((run / "metrics.json").read_text())
    assert card.data.license == "cc-by-4.0"
    assert "the training images of `mnist-mini`" in card.text
    assert f"| {metrics['psnr']['refined']:.3g} |" in card.text
    assert {each.metric_type: each.metric_value for each in card.data.eval_results}["psnr"] == metrics["psnr"][
        "refined"
    ]
    for picture in ("reconstructions.png", "samples.png", "interpolation.png"):
        assert f"]({picture})" in card.text
        assert (pushed / picture).read_bytes() == (run / picture).read_bytes()


def test_commands_take_a_repository_for_a_run_and_write_here(pushed, capsys):
    assert main(["sample", "owner/name", "--rows=1"]) == 0
    assert main(["reconstruct", "hf:owner/name", "--count=2"]) == 0  # config.yaml says which data set
    assert sorted(path.name for path in Path().iterdir()) == ["name-reconstruct.png", "name-sample.png"]
    assert main(["sample", "owner/other"]) == 2
    assert "owner/other: neither a directory nor a model that can be fetched" in capsys.readouterr().err


def test_no_path_of_this_machine_is_pushed(run, tmp_path):
    copy = shutil.copytree(run, tmp_path / "copy")
    for name in ("config.yaml", "metrics.json"):
        (copy / name).write_text((copy / name).read_text().replace("mnist-mini", "/home/me/photos"))
    assert main(["push", str(copy), "owner/name", f"--out={tmp_path / 'out'}"]) == 0
    for file in (tmp_path / "out").iterdir():
        assert b"/home/me" not in file.read_bytes(), file
    assert "the training images of `photos`" in (tmp_path / "out" / "README.md").read_text()


def test_a_mistake_in_the_card_comes_before_anything_is_written(run, tmp_path, capsys):
    copy = shutil.copytree(run, tmp_path / "copy")
    (copy / "config.yaml").write_text("data: [")
    assert main(["push", str(copy), "owner/name", f"--out={tmp_path / 'out'}"]) == 2
    assert "config.yaml" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.parametrize("form", ["pt2", "onnx"])
def test_a_run_is_exported(form, run, tmp_path, capsys):
    assert main(["export", str(run), f"--format={form}", f"--out={tmp_path / 'files'}"]) == 0
    said = capsys.readouterr()
    assert not said.err
    assert [line.partition(" (")[0] for line in said.out.splitlines()] == [
        f"Wrote {tmp_path / 'files' / part}.{form}" for part in ("encoder", "decoder", "refiner")
    ]
    if form == "pt2":
        model, latent, labels = Model.from_pretrained(run), torch.rand(3, 8), torch.tensor([1, 4, 9])
        found = torch.export.load(tmp_path / "files" / "decoder.pt2").module()(latent, labels)
        torch.testing.assert_close(found, model.decode(latent, labels), rtol=0, atol=1e-5)


@pytest.mark.parametrize("content", ['{"data": "x"}', "{}"])
def test_metrics_without_what_a_run_writes_are_one_line(content, run, tmp_path, capsys):
    copy = shutil.copytree(run, tmp_path / "copy")
    (copy / "metrics.json").write_text(content)
    assert main(["push", str(copy), "owner/name", f"--out={tmp_path / 'out'}"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "metrics.json: not the metrics of a run (there is no " in line
