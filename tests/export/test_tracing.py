"""A traced function computes what it did, for any batch, by operations that other programs know."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from feature_alignment import align
from feature_alignment.export.tracing import traced

CONVOLUTIONS = {
    "grouped and dilated": lambda: nn.Conv2d(4, 6, 3, padding=2, dilation=2, groups=2),
    "leaving a border": lambda: nn.Conv2d(2, 3, 2, 3),
    "transposed": lambda: nn.ConvTranspose2d(3, 4, 3, 2, 1, output_padding=1),
    "transposed, padded beyond its reach": lambda: nn.ConvTranspose2d(2, 3, 1, 2, 0, output_padding=1),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_the_derivative_of_a_convolution_is_written_out_as_a_convolution(name):
    torch.manual_seed(0)
    layer = CONVOLUTIONS[name]().double()

    def pulled(x, e):
        return torch.func.vjp(layer, x)[1](e)[0]

    x = torch.rand(3, layer.in_channels, 8, 7, dtype=torch.double)
    program = traced(pulled, (x, torch.rand_like(layer(x))))
    assert not any("convolution_backward" in str(node.target) for node in program.graph.nodes)
    x = torch.rand(5, layer.in_channels, 8, 7, dtype=torch.double, requires_grad=True)
    y = layer(x)
    e = torch.rand_like(y)
    torch.testing.assert_close(program.module()(x.detach(), e), torch.autograd.grad(y, x, e)[0])


class Residual(nn.Module):
    """A block that no rule of the pull-back knows."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Conv2d(2, 2, 3, padding=1)

    def forward(self, x):
        return x + nn.functional.gelu(self.inner(x))


@pytest.mark.parametrize(("steps", "shared"), [(1, True), (2, False)])
def test_features_of_a_network_without_rules_are_traced_for_any_batch(steps, shared):
    torch.manual_seed(0)
    network = nn.Sequential(Residual(), nn.Flatten(), nn.Linear(2 * 5 * 5, 4)).double()

    def feature(target, start):
        return align(network, target, start[:1] if shared else start, steps=steps, step_size=0.1, check=False)

    program = traced(feature, (torch.rand(3, 4).double(), torch.rand(3, 2, 5, 5).double()))
    for count in (1, 4):
        target, start = torch.rand(count, 4).double(), torch.rand(count, 2, 5, 5).double()
        place = (start[:1].expand_as(start) if shared else start).clone().requires_grad_()
        for _ in range(steps):
            error = 0.5 * (network(place) - target).square().sum()
            place = (place - 0.1 * torch.autograd.grad(error, place)[0]).detach().requires_grad_()
        torch.testing.assert_close(program.module()(target, start), place.detach())
