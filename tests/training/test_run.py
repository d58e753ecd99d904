"""The run directory: one training at a time, whatever happens to it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from feature_alignment.training import Run, TrainingError, fit

HOLD = """
import sys
from pathlib import Path
from feature_alignment.training.run import Run
with Run(Path(sys.argv[1])).locked():
    print("locked", flush=True)
    sys.stdin.read()  # until it is killed, or the test ends
"""


def test_a_second_training_is_refused_until_the_first_is_dead(tiny, small, ten, tmp_path):
    run = Run(tmp_path)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], **pipes) as first:
        assert first.stdout.readline() == "locked\n"
        with pytest.raises(TrainingError, match="another training is writing into it"):
            fit(small(), tiny, run, ten(steps=1))
        assert [path.name for path in tmp_path.iterdir()] == [".lock"]
        first.kill()  # no handler runs: the system releases the lock
    assert fit(small(), tiny, run, ten(steps=1))["steps"] == 1


def test_the_lock_is_taken_again_within_the_process_and_is_no_content(tmp_path):
    run = Run(tmp_path / "new")
    with run.locked(), run.locked():
        pass
    with run.locked():
        assert not run.exists()
