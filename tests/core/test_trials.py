"""Randomness and mixing are found by trying, at any batch size, and by name."""

from __future__ import annotations

import random

import pytest
import torch
from torch import nn
from torch.nn import functional

from feature_alignment import align, diagnose, invert
from feature_alignment.core.trials import check_independence


class Noisy(nn.Module):
    def __init__(self, noise):
        super().__init__()
        self.noise, self.linear = noise, nn.Linear(4, 3)

    def forward(self, x):
        return self.linear(self.noise(x))


class Dropping(nn.Module):
    def forward(self, x):
        return functional.dropout(x, 0.3)


class Depth(nn.Module):
    """Stochastic depth: rarely, and for a whole sample."""

    def forward(self, x):
        return x * (torch.rand(len(x), 1) > 0.1)


class Flip(nn.Module):
    def forward(self, x):
        return -x if random.random() < 0.3 else x


class Counter(nn.Module):
    def __init__(self):
        super().__init__()
        self.count = 0

    def forward(self, x):
        self.count += 1
        return x + self.count


@pytest.mark.parametrize("kind", [Dropping, Depth, Flip, Counter])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("shared", [True, False])
def test_randomness_is_refused_and_the_module_named(kind, batch, shared):
    torch.manual_seed(0)
    random.seed(0)
    network = Noisy(kind()).eval()
    start = torch.ones(1 if shared else batch, 4)
    with pytest.raises(ValueError, match=rf"two evaluations of the same input differ in {kind.__name__} at 'noise'"):
        align(network, torch.zeros(batch, 3), start)


@pytest.mark.parametrize(
    "mixing",
    [
        lambda x: x - x.mean(0, keepdim=True),
        lambda x: x if x.mean() > 0 else 2 * x,
        lambda x: x if x.mean() > 5 else 2 * x,
        lambda x: x if x.max() < 3 else 2 * x,
        lambda x: x if x.min() > -3 else 2 * x,
        lambda x: x / x.norm(),
        lambda x: x.cumsum(0).flip(0).cumsum(0).flip(0) - x,
        lambda x: functional.batch_norm(x, None, None, training=True) if len(x) > 1 else x,
        lambda x: (x @ x.T).softmax(1) @ x,
    ],
)
@pytest.mark.parametrize("batch", [1, 3])
def test_mixing_is_refused_at_any_batch_size(mixing, batch):
    with pytest.raises(ValueError, match="changes with its neighbours in the batch"):
        align(mixing, torch.zeros(batch, 4), torch.tensor([[0.5, 1.0, -0.2, 0.3]]).expand(batch, 4).clone())


class Watched(nn.Module):
    def __init__(self):
        super().__init__()
        self.batches = []

    def forward(self, x):
        self.batches.append(len(x))
        return x.tanh()


def test_it_costs_three_evaluations():
    network = Watched()
    check_independence(network, torch.zeros(5, 4))
    assert network.batches == [1, 2, 3]


def test_random_numbers_without_effect_are_accepted():
    check_independence(lambda x: x + 0 * torch.rand(()), torch.zeros(1, 4))
    check_independence(Noisy(nn.Dropout(0.5)).eval(), torch.zeros(1, 4))


def test_a_network_that_refuses_values_outside_of_its_range_is_accepted():
    def network(x):
        if x.min() < 0 or x.max() > 1:
            raise ValueError("pixels: expected values in [0, 1]")
        return x.sqrt()

    check_independence(network, torch.full((1, 4), 0.0))
    with pytest.raises(ValueError, match="changes with its neighbours"):
        check_independence(lambda x: network(x) - x.mean(), torch.zeros(1, 4))


def test_derivatives_under_autocast_are_those_without_the_trial():
    layer, found = nn.Linear(4, 3), []
    for check in (False, True):
        with torch.autocast("cpu", torch.bfloat16):
            feature = align(layer, torch.zeros(2, 3), torch.ones(1, 4), check=check)
        found.append(torch.autograd.grad(feature.sum(), layer.weight)[0])
    assert torch.equal(*found)
    assert found[0].abs().max() > 0


def test_an_output_whose_shape_depends_on_the_batch_is_refused():
    with pytest.raises(ValueError, match="changes with its neighbours"):
        check_independence(lambda x: x[:, : 1 + int(x.abs().amax() > 5)], torch.zeros(1, 4))


def test_rounding_beside_an_output_of_zero_is_accepted():
    check_independence(
        lambda x: 0 * x + 1e-5 * len(x), torch.zeros(1, 4)
    )  # float32 is exact to 1e-7 of the sums before
    with pytest.raises(ValueError, match="changes with its neighbours"):
        check_independence(lambda x: 0 * x + 1e-3 * len(x), torch.zeros(1, 4))


class NoisySum(nn.Module):
    def forward(self, x):
        return x.sum(1) + torch.rand(len(x))


def test_a_random_module_whose_output_is_a_number_is_named():
    with pytest.raises(ValueError, match="differ in NoisySum at '1'"):
        check_independence(nn.Sequential(nn.Linear(4, 3), NoisySum(), nn.Unflatten(0, (-1, 1))), torch.zeros(1, 4))


def test_an_output_with_the_batch_in_another_place_is_named():
    """As the state of an RNN, whose batch is its second dimension."""
    target = torch.zeros(3, 7, 5), torch.zeros(1, 3, 5)
    with pytest.raises(ValueError, match=r"output\[1\]: expected the batch of the input, 2, as its first dimension"):
        align(nn.GRU(4, 5), (target[0], target[1].expand(3, 3, 5)), torch.zeros(3, 7, 4))


@pytest.mark.parametrize("solve", [align, invert])
def test_what_each_sample_has_of_its_own_belongs_to_the_input(solve):
    layer, own = nn.Linear(4, 3), torch.ones(2, 1)
    with pytest.raises(ValueError, match=r"takes 2 samples but not one .*belongs to the network's input"):
        solve(lambda x: layer(torch.cat([x, own], 1)), torch.zeros(2, 3), torch.zeros(2, 3))
    with pytest.raises(ValueError, match=r"batch of the input, 1, as its first dimension, got shape \(2, 3\)"):
        solve(lambda x: layer(x) * own, torch.zeros(2, 3), torch.zeros(2, 4))


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda network, x: align(network, torch.zeros(2, 3, dtype=torch.double), x), "start"),
        (lambda network, x: invert(network, torch.zeros(2, 3), x), "start"),
        (lambda network, x: diagnose(network, x, variables="pixels"), "images"),
    ],
)
def test_inputs_of_another_dtype_than_the_weights_are_named(call, name):
    words = f"{name}: expected dtype torch.float32 like the network's weights, got torch.float64"
    with pytest.raises(TypeError, match=words):
        call(nn.Sequential(nn.Linear(4, 3), nn.ReLU()), torch.zeros(2, 4, dtype=torch.double))


@pytest.mark.parametrize("solve", [align, invert])
def test_a_network_that_returns_nothing_is_named(solve):
    with pytest.raises(TypeError, match="the network's output: expected a floating-point tensor, or several, got None"):
        solve(lambda x: None, torch.zeros(2, 3), torch.zeros(2, 4))
