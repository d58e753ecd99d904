"""Networks in less than single precision, in other memory formats, and quantised ones."""

from __future__ import annotations

import copy
from contextlib import nullcontext

import pytest
import torch
from reference import algorithm_1
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.checkpoint import checkpoint

from feature_alignment import affine_map, align, largest_singular_value


class Opaque(nn.Module):
    """Hides that it is a chain."""

    def __init__(self, inside):
        super().__init__()
        self.inside = inside

    def forward(self, x):
        return self.inside(x)


class Checkpointed(Opaque):
    def forward(self, x):
        return checkpoint(self.inside, x, use_reentrant=False)


class Attentive(nn.Module):
    def __init__(self):
        super().__init__()
        self.inside = nn.TransformerEncoderLayer(6, 2, 8, batch_first=True).eval()

    def forward(self, x):
        return self.inside(torch.stack([x, x.flip(1)], 1))


def chain():
    return nn.Sequential(nn.Linear(6, 8), nn.SiLU(), nn.Linear(8, 5))


@pytest.mark.parametrize("make", [chain, lambda: Opaque(chain()), lambda: Checkpointed(chain()), Attentive])
@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16, "autocast"])
@pytest.mark.parametrize("shared", [True, False])
def test_lower_precision_is_right_to_its_precision(make, precision, shared):
    torch.manual_seed(0)
    network = make()
    exact = copy.deepcopy(network).double()
    dtype = torch.float32 if precision == "autocast" else precision
    network, x, start = network.to(dtype), torch.rand(3, 6), torch.rand(1 if shared else 3, 6)
    context = torch.autocast("cpu", torch.bfloat16) if precision == "autocast" else nullcontext()
    with context:
        target = network(x.to(dtype)).detach()
        feature = align(network, target, start.to(dtype), steps=2, step_size=0.3)
    found = torch.autograd.grad(feature.double().square().sum(), list(network.parameters()))
    with sdpa_kernel(SDPBackend.MATH):
        wanted = algorithm_1(exact, exact(x.double()).detach(), start.double(), steps=2, step_size=0.3)
    expected = torch.autograd.grad(wanted.square().sum(), list(exact.parameters()))
    assert feature.dtype == dtype
    assert float((feature.double() - wanted).norm()) < 0.03 * float(wanted.norm())
    for got, each in zip(found, expected, strict=True):
        assert float((got.double() - each).norm()) < 0.08 * float(each.norm()) + 1e-3


@pytest.mark.parametrize("hide", [lambda x: x, Opaque])
def test_channels_last(hide):
    torch.manual_seed(0)
    inside = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 3), nn.Flatten())
    network = hide(inside.double().eval().to(memory_format=torch.channels_last))
    start = torch.rand(3, 3, 8, 8).double().to(memory_format=torch.channels_last)
    target = torch.randn(3, 16).double()
    feature, wanted = (method(network, target, start, steps=2, step_size=0.1) for method in (align, algorithm_1))
    torch.testing.assert_close(feature, wanted)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_quantised_networks_are_refused():
    network = torch.ao.quantization.quantize_dynamic(chain(), {nn.Linear}, dtype=torch.qint8)
    with pytest.raises(ValueError, match="Linear at '0' is quantised: PyTorch has no derivative of it"):
        align(network, torch.zeros(2, 5), torch.zeros(1, 6))
    message = r"Linear at 'inside\.0': PyTorch has no derivative of an operation without an autograd kernel"
    for function in (affine_map, largest_singular_value):
        with pytest.raises(RuntimeError, match=message):
            function(Opaque(network), torch.zeros(1, 6))
