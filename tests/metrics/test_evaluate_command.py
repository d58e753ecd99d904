"""The command `falign evaluate` with weights of Inception, without any, and with bad ones."""

from __future__ import annotations

import json
from pathlib import Path
from unittest import mock

import pytest
import torch
from naive_metrics import small_model
from torch import nn

from feature_alignment.cli.main import main
from feature_alignment.metrics import INCEPTION_URL
from feature_alignment.models import VFA


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The directory of a run whose model was never trained."""
    directory = tmp_path_factory.mktemp("runs") / "run"
    small_model(VFA).save_pretrained(directory)
    (directory / "config.yaml").write_text("data:\n  name: mnist-mini\n")
    return directory


@pytest.fixture
def no_hub(tmp_path, monkeypatch):
    """A torch hub directory without weights."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    return tmp_path / "hub" / "checkpoints"


@pytest.mark.slow
def test_command_measures_with_the_weights_it_is_given(run, weights, no_hub, capsys):
    assert main(["evaluate", str(run), "--limit", "4", "--inception-weights", str(weights)]) == 0
    printed = capsys.readouterr()
    assert "falign:" not in printed.err  # where the machine is slow, progress bars are
    lines = {line[:38].strip(): line[38:].split() for line in printed.out.splitlines()}
    assert lines["4 test images of mnist-mini"] == ["better", "feature", "reference"]
    found = json.loads((run / "evaluation.json").read_text())
    assert lines["FID of samples"] == ["lower", *(f"{found['fid'][stage]:.3g}" for stage in ("feature", "reference"))]
    assert lines["PSNR (dB)"][0] == "higher"
    assert "(fid: biased: 4 images give 2048 features a singular covariance" in printed.out


@pytest.mark.slow
def test_command_finds_the_weights_that_torch_hub_has(run, weights, no_hub, capsys):
    no_hub.mkdir(parents=True)
    (no_hub / Path(INCEPTION_URL).name).symlink_to(weights)
    assert main(["evaluate", str(run), "--limit", "4", "--fid", "yes"]) == 0
    assert "KID of samples" in capsys.readouterr().out
    assert main(["evaluate", str(run), "--limit", "4", "--fid", "no"]) == 0
    assert "KID of samples" not in capsys.readouterr().out


def test_without_weights_the_rest_is_measured_and_nothing_downloaded(run, no_hub, capsys):
    with mock.patch("urllib.request.urlopen", side_effect=AssertionError("download")):
        assert main(["evaluate", str(run), "--limit", "4"]) == 0
        printed = capsys.readouterr()
        assert "classifier FID" in printed.out
        assert not {"fid", "kid"} & set(json.loads((run / "evaluation.json").read_text()))
        message = f"download {INCEPTION_URL} and give the file with --inception-weights, or put it into {no_hub}\n"
        assert printed.err.count("falign:") == 1
        assert f"falign: left out: FID and KID need the weights of Inception-v3: {message}" in printed.err
        assert main(["evaluate", str(run), "--limit", "4", "--fid", "yes"]) == 2
        assert capsys.readouterr().err.endswith(message)


def harmful():
    class Harmful:
        def __reduce__(self):
            return Path.touch, (Path("harm"),)

    return Harmful()


@pytest.mark.parametrize("content", ["missing", "text", "cut off", "another network", "harmful"])
def test_bad_weights_are_one_clear_line(run, weights, content, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "weights.pth"
    if content == "text":
        path.write_text("<html>not found</html>")
    elif content == "cut off":
        path.write_bytes(weights.read_bytes()[:1_000_000])
    elif content == "another network":
        torch.save(nn.Linear(2, 2).state_dict(), path)
    elif content == "harmful":
        torch.save(harmful(), path)
    assert main(["evaluate", str(run), "--inception-weights", str(path)]) == 2
    problem = "no such file; expected" if content == "missing" else "not the weights of Inception-v3; expected"
    error = capsys.readouterr().err
    assert error.startswith(f"falign: error: --inception-weights {path}: {problem}")
    assert error.count("\n") == 1
    assert not Path("harm").exists()
