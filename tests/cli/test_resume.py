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
import yaml
from command import SMALL
from PIL import Image

from feature_alignment.cli import training
from feature_alignment.cli.main import main
from feature_alignment.training import Run, loop

NARROW = ["--model=AE", "--model.latent=3", "--model.channels=[4]", "--model.width=8", "--data.batch_size=8"]


@pytest.fixture
def stopped_at(monkeypatch, heard):
    """Train with the arguments given until the end of an update, at which a signal comes."""
    heard(signal.SIGTERM)
    step = loop.FabricUpdates.step

    def train(update, *arguments):
        def told(updates, *batch):
            losses = step(updates, *batch)
            if updates.done == update:
                signal.raise_signal(signal.SIGTERM)
            return losses

        with monkeypatch.context() as patch:
            patch.setattr(loop.FabricUpdates, "step", told)
            assert main(["train", *arguments]) == 128 + signal.SIGTERM

    return train


def trained_with(out):
    """Return the options of a run's newest checkpoint, and the number of updates done."""
    found = torch.load(Run(out).checkpoint, weights_only=True)
    return found["asked"], found["updates"]


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


def test_options_given_on_resuming_hold_for_the_parts_after_it(tmp_path, no_report, stopped_at):
    out = f"--out={tmp_path}"
    stopped_at(2, *NARROW, out, "--training.steps=6")
    stopped_at(4, out, "--resume", "--training.steps=8", "--model.learning_rate=0.01")
    assert main(["train", out, "--resume"]) == 0
    asked, done = trained_with(tmp_path)
    assert (asked["model"]["learning_rate"], done) == (0.01, 8)


def test_options_of_a_run_hold_on_resuming_though_a_configuration_was_there(tmp_path, no_report, stopped_at):
    (tmp_path / "config.yaml").write_text("training: {steps: 3}\n")
    (tmp_path / ".lock").touch()  # of a training that ended before its first checkpoint
    stopped_at(2, *NARROW, f"--out={tmp_path}", "--training.steps=6", "--model.learning_rate=0.01")
    assert main(["train", f"--out={tmp_path}", "--resume"]) == 0
    asked, done = trained_with(tmp_path)
    assert (asked["model"]["learning_rate"], done) == (0.01, 6)


@pytest.mark.parametrize("resume", [True, False])
def test_a_training_stopped_before_it_began_leaves_the_configuration(resume, tmp_path, monkeypatch, capsys, stopped_at):
    out, config = f"--out={tmp_path}", tmp_path / "config.yaml"
    if resume:
        stopped_at(2, *NARROW, out)
    else:
        config.write_text("training: {steps: 3}\n")
        (tmp_path / ".lock").touch()
    before = config.read_text()
    monkeypatch.setattr(training, "_announce", lambda *_: signal.raise_signal(signal.SIGTERM))
    capsys.readouterr()
    options = ["--resume"] if resume else NARROW
    assert main(["train", out, *options, "--model.learning_rate=0.01"]) == 128 + signal.SIGTERM
    assert capsys.readouterr().err == f"falign: interrupted {tmp_path}: stopped before it began\n"
    assert config.read_text() == before


@pytest.mark.parametrize("resume", [[], ["--resume"]])
@pytest.mark.parametrize("name", ["config.yaml", "images.txt"])
def test_a_file_of_ones_own_is_not_taken_for_that_of_a_run(name, resume, tmp_path, capsys):
    (tmp_path / name).write_text("model: {class_path: AE}  # mine\n")
    assert main(["train", f"--config={tmp_path / name}", f"--out={tmp_path}", *NARROW[1:], *resume]) == 2
    assert f"--out {tmp_path}: is not empty; choose another directory" in capsys.readouterr().err
    assert (tmp_path / name).read_text().endswith("# mine\n")
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    ("out", "allowed"),
    [("photos/train/../test/b", False), ("photos/train/run", False), ("photos/run", True), ("photos/.runs", True)],
)
@pytest.mark.parametrize(
    "command",
    [
        ["train", *NARROW[:-1], "--data.batch_size=2", "--training.steps=1", "--data.name"],
        ["reproduce", "fig13", "--scale=smoke", "--data"],
    ],
)
def test_the_pictures_of_a_run_do_not_become_images_of_its_data_set(
    command, out, allowed, tmp_path, monkeypatch, capsys
):
    began = []
    monkeypatch.setattr(training, "write_report", lambda *_: began.append(True))
    monkeypatch.setattr(training, "print_summary", lambda *_: None)
    monkeypatch.setattr("feature_alignment.cli.reproduce._reproduce", lambda *_: began.append(True))
    for name in ("train/a/1.png", "train/a/2.png", "test/a/1.png"):
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (32, 32), 99).save(tmp_path / "photos" / name)
    assert main([*command, str(tmp_path / "photos"), f"--out={tmp_path / out}"]) == (0 if allowed else 2)
    assert bool(began) == allowed
    assert ("where the next call would read what is written as images" in capsys.readouterr().err) != allowed


def test_the_directory_that_a_configuration_names_is_the_one_resumed(tmp_path, monkeypatch, no_report, stopped_at):
    """And no option of the run in the directory that is taken by default."""
    monkeypatch.chdir(tmp_path)
    model = {"class_path": "AE", "init_args": {"latent": 3, "channels": [4], "width": 8}}
    (tmp_path / "part.yaml").write_text(yaml.safe_dump({"out": "runs/part", "model": model, "training": {"steps": 4}}))
    stopped_at(1, *NARROW, "--model.learning_rate=0.05")  # in runs/train
    stopped_at(2, "--config=part.yaml", "--data.batch_size=16")
    assert main(["train", "--config=part.yaml", "--resume"]) == 0
    asked, done = trained_with(tmp_path / "runs" / "part")
    assert (asked["model"]["learning_rate"], asked["data"]["batch_size"], done) == (1e-4, 16, 4)
    assert trained_with(tmp_path / "runs" / "train")[1] == 1
