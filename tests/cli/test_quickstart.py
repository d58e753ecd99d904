"""``falign quickstart``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from command import falign

from feature_alignment.cli.main import main


def test_it_trains_the_recipe_into_the_next_free_directory(tmp_path, monkeypatch, no_report):
    monkeypatch.chdir(tmp_path)
    Path("runs/quickstart").mkdir(parents=True)
    assert main(["quickstart", "--steps", "1", "--seed", "5"]) == 0
    written = yaml.safe_load(Path("runs/quickstart-2/config.yaml").read_text())
    assert (written["training"]["steps"], written["training"]["seed"]) == (1, 5)
    assert written["model"]["init_args"]["class_weight"] == 100
    assert main(["quickstart", "--steps", "2", "--resume", "--out", "runs/quickstart-2"]) == 0
    written = yaml.safe_load(Path("runs/quickstart-2/config.yaml").read_text())
    assert (written["training"]["steps"], written["training"]["seed"]) == (2, 5)


@pytest.mark.slow
def test_quickstart_meets_its_promise(tmp_path, monkeypatch):
    """Minutes long: the recipe as shipped, against the thresholds it was made for."""
    monkeypatch.chdir(tmp_path)
    done = falign("quickstart")
    assert done.returncode == 0, done.stderr
    metrics = json.loads(Path("runs/quickstart/metrics.json").read_text())
    assert metrics["reconstruction_error"]["feature"] <= 13
    assert metrics["classifier_fid"]["refined"] <= 25
    assert metrics["class_agreement"]["refined"] >= 0.95
