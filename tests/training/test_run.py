"""The run directory: one training at a time, whatever happens to it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from feature_alignment.training import Run, TrainingError, fit

HOLD = """
import sys, time
from pathlib import Path
from feature_alignment.training.run import Run
with Run(Path(sys.argv[1])).locked():
    print("locked", flush=True)
    time.sleep(600)
"""


def test_a_second_training_is_refused_until_the_first_is_dead(tiny, small, ten, tmp_path):
    run = Run(tmp_path)
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True) as first:
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
