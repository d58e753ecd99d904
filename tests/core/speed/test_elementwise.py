"""Activations with their slopes, and products with what a batch shares: against PyTorch's own derivatives."""

from __future__ import annotations

import math

import pytest
import torch
from torch import func, nn
from torch.autograd import gradcheck, gradgradcheck

from feature_alignment.core import speed
from feature_alignment.core.speed.elementwise import pulled_back, scaled

FUNCTIONS = {
    "silu": nn.SiLU(),
    "silu in place": nn.SiLU(inplace=True),
    "sigmoid": nn.Sigmoid(),
    "elu": nn.ELU(),
    "elu in place": nn.ELU(inplace=True),
    "function": torch.sigmoid,
}


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def images(samples, memory_format=torch.contiguous_format):
    x = 3 * torch.randn(samples, 2, 3, 4, dtype=torch.double)
    return x.to(memory_format=memory_format).requires_grad_()


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_an_activation_its_pull_back_and_two_derivatives_of_both(name, samples, memory_format):
    function, x, e = FUNCTIONS[name], images(samples, memory_format), images(3)
    kept = x.detach().clone()

    def ours(x, e):
        output, pull = pulled_back(function, x)
        return output, pull(e)

    def theirs(x, e):
        output, pull = func.vjp(lambda x: function(x.clone()), x.expand(3, -1, -1, -1))
        return output[: len(x)], pull(e)[0]

    found = []
    for side in (ours, theirs):
        output, pulled = side(x, e)
        first = torch.autograd.grad(output.sin().sum() + pulled.sin().sum(), [x, e], create_graph=True)
        second = torch.autograd.grad(sum(each.cos().sum() for each in first), [x, e])
        found.append([output, pulled, *first, *second])
    assert torch.equal(x, kept)
    for got, wanted in zip(*found, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-12, atol=1e-12)
    assert gradcheck(ours, (x, e))
    assert gradgradcheck(ours, (x, e))


def test_the_derivatives_are_right_far_from_zero():
    x = torch.tensor([[-800.0, -60.0, -41.0, -39.0, 0.0, 39.0, 41.0, 60.0, 800.0]]).double().requires_grad_()
    for function in (nn.SiLU(), torch.sigmoid, nn.ELU()):
        output, pull = pulled_back(function, x)
        (got,) = torch.autograd.grad(2 * output.sum() + 3 * pull(torch.ones_like(x)).sum(), x)
        slope = torch.autograd.grad(function(x).sum(), x, create_graph=True)[0]
        (wanted,) = torch.autograd.grad(2 * function(x).sum() + 3 * slope.sum(), x)
        torch.testing.assert_close(got, wanted, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("function", [nn.SiLU(), torch.sigmoid, nn.ELU()])
def test_without_a_graph_it_is_the_same_and_the_pull_back_can_still_be_differentiated(function):
    x, e = images(3), images(3)
    output, pull = pulled_back(function, x)
    with torch.no_grad():
        plain, pull_plainly = pulled_back(function, x)
        torch.testing.assert_close(plain, output, rtol=0, atol=0)
        torch.testing.assert_close(pull_plainly(e), pull(e), rtol=1e-14, atol=1e-14)
        slopes = func.jvp(pull_plainly, (e,), (torch.ones_like(e),))[1]
    found = pull_plainly(e)
    torch.testing.assert_close(torch.autograd.grad(found.sum(), e)[0], slopes, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("shape", [(1, 2, 3, 4), (1, 2, 1, 1), (1, 1, 1, 1)])
@pytest.mark.parametrize("of_offset", [(1, 2, 3, 4), (1, 2, 1, 1), None])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_a_scale_and_an_offset_that_the_batch_shares(shape, of_offset, memory_format):
    x, scale = images(5, memory_format), torch.randn(shape, dtype=torch.double, requires_grad=True)
    given = [x, scale] + ([] if of_offset is None else [torch.randn(of_offset, dtype=torch.double, requires_grad=True)])

    def theirs(x, scale, offset=0.0):
        return offset + scale * x

    found = []
    for function in (scaled, theirs):
        output = function(*given)
        first = torch.autograd.grad(output.sin().sum(), given, create_graph=True)
        second = torch.autograd.grad(sum(each.cos().sum() for each in first), given)
        found.append([output, *first, *second])
    for got, wanted in zip(*found, strict=True):
        assert got.shape == wanted.shape
        torch.testing.assert_close(got, wanted, rtol=1e-12, atol=1e-12)


def test_units_of_a_flat_batch_are_scaled_too():
    x, scale = torch.randn(5, 3).double().requires_grad_(), torch.randn(1, 3).double().requires_grad_()
    assert gradcheck(scaled, (x, scale))
    assert gradgradcheck(scaled, (x, scale))


def test_where_it_does_not_apply_it_stands_back():
    x = images(2)
    with speed.switched(False):
        assert pulled_back(nn.SiLU(), x) is None
    assert pulled_back(nn.GELU(), x) is None
    assert pulled_back(nn.SiLU(), x.detach().half()) is None
    with torch.inference_mode():
        assert pulled_back(nn.SiLU(), x) is None
    with torch.autocast("cpu", torch.bfloat16):
        assert pulled_back(nn.SiLU(), x) is None
    seen = []
    func.vmap(lambda row: seen.append(pulled_back(nn.SiLU(), row)) or row)(x)
    assert seen == [None]


def test_elu_is_pytorchs_in_single_precision():
    x = torch.cat([torch.linspace(-120, 5, 100_001), torch.tensor([0.0, -0.0, 1e-30, -1e-30, -math.inf, math.inf])])
    found = pulled_back(nn.ELU(), x[None])[0][0]
    torch.testing.assert_close(found, nn.functional.elu(x), rtol=0, atol=2**-24)
    assert pulled_back(nn.ELU(), torch.full((1, 1), math.nan))[0].isnan()
    assert pulled_back(nn.ELU(alpha=0.5), x[None]) is None
