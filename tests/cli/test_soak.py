"""Trainings that are killed at any point and resumed are the ones that were never interrupted; all of `make soak`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SOAK = Path(__file__).parents[2] / "benchmarks" / "soak.py"


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_ten_kills_lose_nothing(tmp_path):
    out = tmp_path / "soak.json"
    done = subprocess.run([sys.executable, str(SOAK), "--kills=10", f"--out={out}"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(out.read_text())
    assert (found["kills"], found["lost"]) == (10, 0)
    assert set(found["by_phase"].values()) == {2}
    assert all(case["exit"] != 0 for case in found["cases"])
