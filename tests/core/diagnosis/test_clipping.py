"""Clipped units, against the slopes written down by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from feature_alignment.core.diagnosis import clipped_share
from feature_alignment.core.select import select

A = torch.linspace(-8, 8, 161).double().view(1, -1)

#: Activations and where their slope is below 0.01 in absolute value.
SLOPES = {
    "relu": (nn.ReLU(), A <= 0),
    "relu6": (nn.ReLU6(), (A <= 0) | (A >= 6)),
    "hardtanh": (nn.Hardtanh(), A.abs() >= 1),
    "leaky": (nn.LeakyReLU(0.01), A < -99),  # 0.01 is not below 0.01
    "flatter": (nn.LeakyReLU(0.009), A <= 0),
    "tanh": (nn.Tanh(), 1 - A.tanh() ** 2 < 0.01),
    "sigmoid": (nn.Sigmoid(), A.sigmoid() * (1 - A.sigmoid()) < 0.01),
    "softplus": (nn.Softplus(), A.sigmoid() < 0.01),
    "elu": (nn.ELU(), (A < 0) & (A.exp() < 0.01)),
    "silu": (nn.SiLU(), (A.sigmoid() * (1 + A * (1 - A.sigmoid()))).abs() < 0.01),
    "hardsigmoid": (nn.Hardsigmoid(), A.abs() >= 3),
    "softsign": (nn.Softsign(), (1 + A.abs()) ** -2 < 0.01),
    "gelu": (
        nn.GELU(),
        (0.5 * (1 + torch.erf(A / math.sqrt(2))) + A * torch.exp(-A * A / 2) / math.sqrt(2 * math.pi)).abs() < 0.01,
    ),
}


@pytest.mark.parametrize("name", SLOPES)
def test_slopes_below_a_hundredth_are_counted(name):
    activation, clipped = SLOPES[name]
    away = A[:, (A.abs() % 1 > 1e-6).flatten()]  # the slope at a kink is a convention
    expected = clipped[:, (A.abs() % 1 > 1e-6).flatten()]
    assert clipped_share(activation, away) == pytest.approx(float(expected.double().mean()))


FORMS = [
    nn.ReLU(), nn.ReLU(inplace=True), functional.relu, torch.relu, torch.Tensor.relu, torch.Tensor.relu_,
    lambda x: x.clamp(min=0), lambda x: torch.clamp(input=x, min=0), lambda x: torch.ops.aten.relu.default(x),
    lambda x: functional.threshold(x, 0, 0),
]  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_a_function_in_any_form_is_seen_once_and_leaves_the_input(form):
    x = torch.tensor([[-1.0, -2.0, -3.0, 4.0]])
    assert clipped_share(form, x) == 0.75
    assert x.tolist() == [[-1, -2, -3, 4]]


def test_units_of_all_activations_up_to_the_depth_count():
    network = nn.Sequential(nn.ReLU(), nn.Linear(4, 2), nn.ReLU(), nn.Tanh())
    nn.init.ones_(network[1].weight)
    nn.init.constant_(network[1].bias, -100)
    x = torch.tensor([[-1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 3.0, 4.0]])
    assert clipped_share(select(network, "0"), x) == 1 / 8
    assert clipped_share(select(network, "2"), x) == 5 / 12  # 1 of 8, and 4 of 4
    assert clipped_share(network, x) == 5 / 16  # the slope of tanh is 1 at 0
    assert clipped_share(nn.Sequential(nn.Linear(4, 2), nn.Softmax(1), nn.Flatten()), x) is None


class WithTable(nn.Module):
    """An activation of weights alone, as in a position bias, beside one of the image."""

    def __init__(self):
        super().__init__()
        self.table = nn.Parameter(torch.full((1, 1000), -1.0))

    def forward(self, x):
        return x.relu() + self.table.relu().sum()


@pytest.mark.parametrize("count", [1, 3])
def test_what_is_computed_from_weights_alone_does_not_count(count):
    assert clipped_share(WithTable(), torch.ones(count, 4)) == 0


def test_an_exported_network_of_a_fixed_batch_is_seen_too():
    exported = torch.export.export(nn.Sequential(nn.Linear(4, 4), nn.ReLU()).eval(), (torch.ones(1, 4),)).module()
    x = torch.randn(5, 4)
    assert clipped_share(exported, x) == pytest.approx(float(_hidden(exported, x).double().mean()))


def _hidden(exported, x):
    weights = dict(exported.named_parameters())
    return x @ weights["0.weight"].T + weights["0.bias"] <= 0


class WithWidth(nn.Module):
    """An activation of as many weights as a layer has units."""

    def __init__(self, width):
        super().__init__()
        self.table = nn.Parameter(torch.full((width,), -10.0))

    def forward(self, x):
        return x.relu() + nn.functional.softplus(self.table).sum()


@pytest.mark.parametrize("width", [2, 3, 4, 64])
@pytest.mark.parametrize("count", [1, 2, 3, 4, 8])
def test_as_many_weights_as_images_do_not_count(count, width):
    assert clipped_share(WithWidth(width), torch.ones(count, 4)) == 0
