"""The benchmark of the layered start reports what it promises, and the operations are those that follow from theory."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest
import torch

TINY = {"image_shape": (1, 8, 8), "channels": (14, 6), "width": 24, "latent": 5}


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")
    module = importlib.import_module("layered")
    monkeypatch.setitem(module.SIZES, "small", TINY)
    monkeypatch.setattr(module, "DEVICE", "cpu")
    return module


def test_it_reports_every_key(benchmark, tmp_path, capsys):
    path, threads = tmp_path / "result.json", torch.get_num_threads()
    try:
        result = benchmark.main(["--batch", "16", "--repeats", "2", "--sizes", "small", "--json", str(path)])
    finally:
        torch.set_num_threads(threads)
    assert json.loads(capsys.readouterr().out) == json.loads(path.read_text()) == result
    found = result["sizes"]["small"]
    for name in ("autoencoder", "origin network", "T=1", "T=2", "T=1, K=15"):
        assert found["update"][name]["median_of_ratios"] > 0
        assert found["gigaflop"]["update"][name] >= 0
    assert set(found["decoding"]) == {"autoencoder", "T=1", "T=2"}
    assert found["decoding"]["autoencoder"]["ratio_of_medians"] == 1
    assert set(found["gigaflop_by_part"]) == {"encoding", "start", "correction"}
    for kinds in found["where_ms"].values():
        assert all(milliseconds >= 0 for milliseconds in kinds.values())


def test_a_step_is_two_passes_and_its_derivative_twice_that(benchmark):
    torch.manual_seed(0)
    model = benchmark.models(TINY)["T=1"]
    parts = benchmark.by_part(model, torch.rand(64, 1, 8, 8))
    one = parts["encoding"]["forward"]
    assert parts["start"]["forward"] == pytest.approx(one, rel=0.1)
    assert parts["correction"]["forward"] == pytest.approx(2 * one, rel=0.1)
    assert parts["correction"]["with backward"] == pytest.approx(6 * one, rel=0.1)
