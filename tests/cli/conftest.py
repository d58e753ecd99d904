"""What the tests of the commands share: one small trained run, and a training without its report."""

from __future__ import annotations

import pytest
from command import SMALL, falign

from feature_alignment.cli import training


@pytest.fixture(scope="session")
def run(tmp_path_factory, cache):
    """A finished run of the quickstart's recipe, narrower and of a few updates, made in a process of its own."""
    directory = tmp_path_factory.mktemp("runs") / "small"
    done = falign("train", "--config", "quickstart", *SMALL, "--training.steps=30", "--out", directory)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert "warning" not in done.stderr
    assert "Try next" in done.stdout
    return directory


@pytest.fixture
def no_report(monkeypatch):
    """Leave out what follows a training: evaluation and drawing take longer than a few updates."""
    monkeypatch.setattr(training, "write_report", lambda *_: None)
    monkeypatch.setattr(training, "print_summary", lambda *_: None)
