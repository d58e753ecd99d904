"""What the tests of the commands share: one small trained run, and a training without its report."""

from __future__ import annotations

import io
from contextlib import redirect_stderr, redirect_stdout

import pytest
from command import SMALL

from feature_alignment.cli import training
from feature_alignment.cli.main import main


@pytest.fixture(scope="session")
def run(tmp_path_factory, cache):
    """A finished run of the quickstart's recipe, narrower and of a few updates."""
    directory, out, err = tmp_path_factory.mktemp("runs") / "small", io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        assert main(["train", "--config", "quickstart", *SMALL, "--training.steps=30", f"--out={directory}"]) == 0
    assert "warning" not in err.getvalue()
    assert "Try next" in out.getvalue()
    return directory


@pytest.fixture
def no_report(monkeypatch):
    """Leave out what follows a training: evaluation and drawing take longer than a few updates."""
    monkeypatch.setattr(training, "write_report", lambda *_: None)
    monkeypatch.setattr(training, "print_summary", lambda *_: None)
