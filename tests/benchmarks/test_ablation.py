"""The ablation trains what it says, and goes on where it was."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from feature_alignment.core.pullback import Chain
from feature_alignment.models import VFA
from feature_alignment.models.networks import Encoder
from feature_alignment.samplers import Normal


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


def test_samples_are_decoded_by_the_steps_asked_for(ablation, monkeypatch):
    model, asked = VFA((1, 8, 8), 2, channels=(2,), width=8, start="layers", squash="every", classes=3), []
    sampler = Normal(2)

    def decoded(model, drawn_from, held_out, seed):
        asked.append(model.options.decode_steps)
        return {"feature": drawn_from}

    monkeypatch.setattr(ablation, "decoded", decoded)
    monkeypatch.setattr(ablation, "fitted", lambda name, *_: sampler if name == "mixture" else None)
    monkeypatch.setattr(ablation, "classifier_for", lambda _: "classifier")
    monkeypatch.setattr(ablation, "classifier_fid", lambda _, real, samples: 1.0 if samples is sampler else 0.0)
    split = SimpleNamespace(train=None, held_out=SimpleNamespace(images=lambda: None))
    assert [ablation.distance(model, split, 0, steps) for steps in (1, 16)] == [1.0, 1.0]
    assert asked == [1, 16]
    assert model.options.decode_steps is None
