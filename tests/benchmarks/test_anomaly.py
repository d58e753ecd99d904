"""The benchmark of anomalies: AUROC is what it is said to be, and a stopped run goes on."""

import argparse
import importlib.util
import json
from pathlib import Path

import pytest
import torch

from feature_alignment.data import Images


@pytest.fixture(scope="module")
def benchmark():
    path = Path(__file__).parents[2] / "benchmarks" / "anomaly.py"
    specification = importlib.util.spec_from_file_location("anomaly", path)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def squares(count, split):
    """Images of two classes, the second one brighter."""
    labels = torch.arange(count) % 2
    noise = torch.randint(0, 120, (count, 1, 8, 8), generator=torch.Generator().manual_seed(count))
    return Images("squares", split, (noise + 60 * labels.view(-1, 1, 1, 1)).byte(), labels, ("dark", "bright"))


class Black:
    """Reconstructs every image as black."""

    def as_floats(self, pixels):
        return pixels / 255

    def reconstruct(self, images):
        return torch.zeros_like(images)


def test_auroc_is_the_share_of_pairs_in_the_right_order(benchmark):
    test = squares(40, "test")
    scores = (test.pixels.double() / 255).square().flatten(1).sum(1)
    others, own = scores[test.labels != 0], scores[test.labels == 0]
    wanted = (others[:, None] > own[None]).double().mean()
    assert benchmark.auroc(Black(), test, 0, None) == pytest.approx(float(wanted))
    assert benchmark.auroc(Black(), test, 1, None) == pytest.approx(1 - float(wanted))


def test_it_goes_on_where_it_was_stopped(benchmark, tmp_path, monkeypatch):
    monkeypatch.setitem(benchmark.COMMON, "channels", (4,))
    monkeypatch.setitem(benchmark.COMMON, "width", 16)
    path = tmp_path / "anomaly.json"
    options = {"data": "squares", "latent": 2, "updates": 2, "batch": 8, "seeds": [0, 1], "limit": None, "json": path}
    given = (squares(40, "train"), squares(20, "test"))
    benchmark.compared(*given, argparse.Namespace(**options, classes=[0]))
    monkeypatch.setattr(benchmark, "measured", lambda *_: [0.75, 0.5])
    found = benchmark.compared(*given, argparse.Namespace(**options, classes=[0, 1]))
    assert found == json.loads(path.read_text())
    for name in ("fa", "ae"):
        dark, bright = (found["auroc"][name][each] for each in ("dark", "bright"))
        assert all(0 <= each <= 1 for each in dark)
        assert bright == [0.75, 0.5]
        assert found["mean"][name] == pytest.approx((sum(dark) + 1.25) / 4)
        first, second = ((dark[seed] + bright[seed]) / 2 for seed in (0, 1))
        assert found["deviation"][name] == pytest.approx(abs(first - second) / 2**0.5)
    again = benchmark.compared(*given, argparse.Namespace(**options | {"updates": 3}, classes=[0]))
    assert again["auroc"]["fa"] == {"dark": [0.75, 0.5]}
