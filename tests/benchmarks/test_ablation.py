"""The ablation trains what it says, and goes on where it was."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest
import torch

from feature_alignment.core.pullback import Chain
from feature_alignment.models.networks import Encoder


@pytest.fixture
def ablation(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")
    return importlib.import_module("ablation")


@pytest.mark.parametrize("count", [2, 3, 6])
def test_fewer_stages_are_the_same_encoder(ablation, count):
    encoder, images = Encoder((1, 8, 8), (4, 6), 16, "elu", True), torch.rand(3, 1, 8, 8)
    stages = ablation.joined(encoder, count)
    assert len(stages) == count - 1
    assert torch.allclose(Chain(stages)(images), encoder(images))


def test_variants_are_added_to_what_is_there(ablation, monkeypatch, tmp_path):
    best = {"learning_rate": 1e-3, "activation": "elu", "value": 1.0}
    monkeypatch.setattr(ablation, "chosen", lambda *_: best)
    path = tmp_path / "ablation.json"
    path.write_text(json.dumps({"variants": {"start alone": {"error": 3.0}}}))
    asked = ["--entries", str(tmp_path), "--latent", "2", "--updates", "1", "--json", str(path)]
    threads = torch.get_num_threads()
    try:
        ablation.main([*asked, "--variants", "start alone", "autoencoder", "both, T = 1, 2 stages"])
    finally:
        torch.set_num_threads(threads)
    found = json.loads(path.read_text())["variants"]
    assert list(found) == ["start alone", "autoencoder", "both, T = 1, 2 stages"]
    assert found["start alone"] == {"error": 3.0}
    assert found["autoencoder"]["parameters"] > 1.8 * found["both, T = 1, 2 stages"]["parameters"] > 1_000_000
