"""What two processes send in an update: the gradients that each optimiser owns, and nothing else."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "communication.py"


@pytest.mark.slow
def test_every_optimiser_sends_the_gradients_of_its_own_parameters_only(tmp_path):
    file = tmp_path / "result.json"
    subprocess.run(
        [sys.executable, SCRIPT, "--sizes", "tiny", "--json", file], check=True, capture_output=True, timeout=600
    )
    result = json.loads(file.read_text())
    found = result["bytes"]["tiny"]
    specification = importlib.util.spec_from_file_location("communication", SCRIPT)
    benchmark = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(benchmark)
    assert found.keys() == benchmark.MODELS.keys()
    for name, sent in found.items():
        model = benchmark.built(name, "tiny")
        expected = {
            key: 4 * sum(each.numel() for group in optimizer.param_groups for each in group["params"])
            for key, optimizer in model.optimizers().items()
        }
        assert sent["gradients"] == expected, name
        # Two processes: each sends as much as there is, besides headers of at most some kilobytes a model.
        assert sent["wire"] >= sum(expected.values()), name
        if result["isolated"]:
            assert sent["wire"] < sum(expected.values()) + 20_000, name
