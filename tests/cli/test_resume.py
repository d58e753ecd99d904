"""Trainings that are killed or interrupted, and go on."""

from __future__ import annotations

import csv
import functools
import signal
import subprocess
import sys
import time

import pytest
import torch
from command import SMALL

from feature_alignment.cli import training
from feature_alignment.cli.main import main
from feature_alignment.training import loop


@pytest.mark.slow
def test_killed_training_resumes_from_its_last_checkpoint(tmp_path, no_report, capsys):
    out = tmp_path / "killed"
    command = [sys.executable, "-m", "feature_alignment", "train", "--config", "quickstart", *SMALL,
               "--training.steps=400", f"--out={out}"]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    checkpoint, deadline = out / "checkpoints" / "last.ckpt", time.time() + 120
    while not checkpoint.is_file() and process.poll() is None and time.time() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert checkpoint.is_file()
    reached = torch.load(checkpoint, weights_only=True)["updates"]
    assert 10 <= reached < 400

    assert main(["train", "--config", "quickstart", f"--out={out}"]) == 2
    assert "--resume" in capsys.readouterr().err
    assert main(["sample", str(out)]) == 2
    assert "continue with --resume" in capsys.readouterr().err

    assert main(["train", f"--out={out}", "--resume", f"--training.steps={reached + 15}"]) == 0
    assert torch.load(checkpoint, weights_only=True)["updates"] == reached + 15
    steps = [int(float(row["step"])) for row in csv.DictReader((out / "log.csv").open())]
    assert steps == sorted(set(steps))
    assert steps[-1] >= reached


def test_interrupted_training_keeps_what_it_has(tmp_path):
    out = tmp_path / "stopped"
    command = [sys.executable, "-m", "feature_alignment", "train", "--config", "quickstart", *SMALL,
               "--training.checkpoint_every=100000", f"--out={out}"]  # fmt: skip
    # A shell's background jobs inherit an ignored Ctrl-C; the command is to be tested as a terminal starts it.
    obey = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, preexec_fn=obey)
    log, deadline = out / "log.csv", time.time() + 120
    while not (log.is_file() and log.stat().st_size) and process.poll() is None and time.time() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert "Traceback" not in said
    assert f"{out}: stopped at step" in said
    assert torch.load(out / "checkpoints" / "last.ckpt", weights_only=True)["updates"] >= 10


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP], ids=lambda each: each.name)
@pytest.mark.parametrize("when", ["while it trains", "while it reports"])
def test_a_training_that_is_told_to_end_loses_nothing(number, when, tmp_path, monkeypatch, capsys, no_report, heard):
    """As by docker, SLURM, ``kill`` or a closed terminal: the command that goes on is named, and goes on."""
    heard(number)
    step, command = loop.FabricUpdates.step, f"falign train --out {tmp_path} --resume"

    def told(updates, *batch):
        losses = step(updates, *batch)
        if updates.done == 3:
            signal.raise_signal(number)
        return losses

    with monkeypatch.context() as patch:
        if when == "while it trains":
            patch.setattr(loop.FabricUpdates, "step", told)
        else:
            patch.setattr(training, "write_report", lambda *_: signal.raise_signal(number))
        narrow = ["--model=AE", "--model.latent=3", "--model.channels=[4]", "--model.width=8", "--training.steps=5"]
        assert main(["train", *narrow, "--data.batch_size=8", f"--out={tmp_path}"]) == 128 + number
    assert command in capsys.readouterr().err
    checkpoint = tmp_path / "checkpoints" / "last.ckpt"
    reached = torch.load(checkpoint, weights_only=True)["updates"]
    assert reached == (3 if when == "while it trains" else 5)
    assert main(command.split()[1:]) == 0
    assert torch.load(checkpoint, weights_only=True)["updates"] == 5
    assert (tmp_path / "model.safetensors").is_file()
