"""The benchmark of memory: its tracker counts what is alive, as the allocator does, and it reports what it promises."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

MEGABYTE = 250_000  # elements


@pytest.fixture(scope="module")
def benchmark():
    path = Path(__file__).parents[2] / "benchmarks" / "memory.py"
    specification = importlib.util.spec_from_file_location("memory", path)
    module = importlib.util.module_from_spec(specification)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "memory", module)
        specification.loader.exec_module(module)
        patch.setattr(module, "DEVICE", "cpu")
        patch.setattr(module, "DEPTHS", (2, 4))
        patch.setattr(module, "CHECKED_DEPTH", 4)
        yield module


def megabytes(count):
    return torch.zeros(count * MEGABYTE)


def test_tracker_counts_every_storage_once_while_it_lives(benchmark):
    before = megabytes(50)

    with benchmark.LiveTensors() as tracker:
        before.add_(1)
        view_of_before = before[:MEGABYTE].view(500, 500)
        assert tracker.peak == 0
        first = megabytes(3)
        views = [first[:10], first.view(3, -1).T, first.detach(), first.add_(1)]
        assert tracker.live == 3e6
        second = view_of_before + 1
        assert tracker.live == 4e6
        del first
        assert tracker.live == 4e6  # the views are still there
        del views
        assert tracker.live == 1e6
        for _ in range(5):
            third = megabytes(2)
            del third
        assert tracker.live == 1e6
        del second
        assert tracker.live == 0
        sparse = torch.empty_strided((2,), (MEGABYTE,))
        assert tracker.live == 1e6 + 4
        del sparse
    assert tracker.peak == 4e6


def test_tracker_sees_what_only_autograd_keeps(benchmark):
    x = megabytes(1).requires_grad_()
    with benchmark.LiveTensors([nn.Parameter(x.detach())]) as tracker:
        y = x.exp()  # keeps its result
        z = y.sin()  # keeps its argument
        del y
        assert tracker.live == 2e6
        z = z.sum()
        assert tracker.live == 1e6 + 4
        z.backward()
    assert x.grad is not None
    del z
    assert tracker.live == 1e6  # the gradient


def test_gradients_at_the_peak_are_told_apart(benchmark):
    parameter = nn.Parameter(megabytes(1))

    def step():
        (2 * parameter).sum().backward()
        megabytes(5)
        parameter.grad = None

    assert benchmark.live_peak(step, [parameter]) == {"mb": 6.0, "gradients_mb": 1.0}

    def by_hand():
        parameter.grad = torch.zeros_like(parameter)
        parameter.grad.add_(1)
        parameter.grad = None

    assert benchmark.live_peak(by_hand, [parameter]) == {"mb": 1.0, "gradients_mb": 1.0}


@pytest.mark.parametrize("method", ["backpropagation", "accumulation", "checkpoint_fused", "fa", "local"])
def test_tracker_agrees_with_the_allocator(benchmark, method):
    """Products of matrices need no workspace of their own: all that is allocated is tensors."""
    trainee = benchmark.Trainee(*benchmark.linear(5, 64), 96)
    step = trainee.step(method, 16)
    step()
    assert benchmark.live_peak(step)["mb"] == pytest.approx(benchmark.allocated_peak(step), rel=0.03)


def test_methods_share_the_gradients(benchmark):
    """Every method of backpropagation, and both of `local`, lead to the same weights."""
    weights = {}
    for method in benchmark.METHODS:
        torch.manual_seed(1)  # of the biases
        trainee = benchmark.Trainee(*benchmark.convolutional(5, 3), 6)
        for optimizer in trainee.optimizers:
            optimizer.param_groups[0].update(lr=1e-2, eps=1e-3)  # far from Adam's sign of the rounding
        trainee.step(method, 4)()
        weights[method] = torch.cat([layer.weight.detach().flatten() for layer in trainee.network.learning_layers()])
    for method in ("accumulation", "checkpoint", "checkpoint_layers", "checkpoint_fused"):
        torch.testing.assert_close(weights[method], weights["backpropagation"], rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(weights["local"], weights["local_whole"], rtol=1e-3, atol=1e-5)
    assert not torch.allclose(weights["local"], weights["backpropagation"], atol=1e-3)
    assert not torch.allclose(weights["fa"], weights["backpropagation"], atol=1e-3)


def test_it_reports_every_key_and_local_is_flat(benchmark, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(benchmark, "TABLE_4", ((3, 16, 16), (8, 12), 96))
    path = tmp_path / "result.json"
    options = {"batch": 8, "micro-batch": 4, "channels": 2, "width": 32, "repeats": 1, "json": path}
    result = benchmark.main([word for key, value in options.items() for word in (f"--{key}", str(value))])
    assert json.loads(capsys.readouterr().out) == json.loads(path.read_text()) == result

    for family in (result["convolutional"], result["linear"]):
        assert family["depths"] == [2, 4]
        for method in benchmark.METHODS:
            for key in ("mb", "gradients_mb", "images_per_s"):
                values = family[f"{method}_{key}"]
                assert len(values) == 2
                assert all(value >= 0 for value in values)
        assert family["backpropagation_mb"][1] > 1.3 * family["backpropagation_mb"][0]
        assert family["optimizer_mb"][1] >= family["parameters_mb"][1] > 0
        assert family["local_deepest_over_shallowest"] < 1.1
        assert family["local_mb"][1] < 0.5 * family["backpropagation_mb"][1]
        assert family["local_mb"][1] <= family["local_whole_mb"][1]
        assert family["equal_throughput"]["local_over_accumulation"] > 0

    assert result["convolutional"]["local_mb"][1] < 0.8 * result["convolutional"]["local_whole_mb"][1]
    table = result["table_4"]
    assert table["local_over_backpropagation"] < 0.5
    assert {"accumulation_1", "accumulation_4", "local_1", "local_4", "local_whole", "fa"} <= table["methods"].keys()
    assert table["equal_throughput"]["accumulation_mb"] > 0
    assert table["allocated_mb"]["backpropagation"] > 0
