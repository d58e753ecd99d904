"""Layers that compute as PyTorch's do, but otherwise."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.autograd import gradcheck, gradgradcheck
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from feature_alignment.core import speed
from feature_alignment.core.pullback import vjp
from feature_alignment.core.speed.convolution import (
    NarrowConv2d,
    is_narrow,
    narrow_conv2d,
    narrow_transposed_conv2d,
)


class Convolutions(TorchDispatchMode):
    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += function is torch.ops.aten.convolution.default
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    ("arguments", "narrow"),
    [
        ({"in_channels": 14, "out_channels": 1, "kernel_size": 3, "padding": 1}, True),
        ({"in_channels": 13, "out_channels": 1, "kernel_size": 3, "padding": 1}, False),
        ({"in_channels": 48, "out_channels": 2, "kernel_size": (3, 5), "padding": (1, 2), "bias": False}, True),
        ({"in_channels": 48, "out_channels": 2, "kernel_size": (5, 3), "padding": (2, 1)}, True),
        ({"in_channels": 14, "out_channels": 1, "kernel_size": 3, "padding": "same"}, False),
        ({"in_channels": 14, "out_channels": 1, "kernel_size": 3, "padding": 0}, False),
        ({"in_channels": 14, "out_channels": 1, "kernel_size": (3, 2), "padding": (1, 1)}, False),
        ({"in_channels": 14, "out_channels": 1, "kernel_size": (2, 1), "padding": (1, 0)}, False),
        ({"in_channels": 14, "out_channels": 1, "kernel_size": 3, "padding": 1, "padding_mode": "circular"}, False),
        ({"in_channels": 14, "out_channels": 1, "kernel_size": 3, "padding": 1, "stride": 2}, False),
        ({"in_channels": 14, "out_channels": 1, "kernel_size": 3, "padding": 1, "dilation": (1, 2)}, False),
        ({"in_channels": 36, "out_channels": 2, "kernel_size": 3, "padding": 1, "groups": 2}, False),
    ],
)
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_narrow_convolutions_and_their_derivatives_are_those_of_torch(arguments, narrow, memory_format):
    torch.manual_seed(0)
    theirs = nn.Conv2d(**arguments).double().to(memory_format=memory_format)
    ours = NarrowConv2d(**arguments).double().to(memory_format=memory_format)
    ours.load_state_dict(theirs.state_dict())
    images = torch.randn(2, arguments["in_channels"], 6, 7, dtype=torch.double)
    images = images.to(memory_format=memory_format).requires_grad_()
    found = []
    for layer in (ours, theirs):
        with Convolutions() as convolutions:
            output = layer(images)
        found.append([output, *torch.autograd.grad(output.sin().sum(), [images, *layer.parameters()])])
        assert (convolutions.count == 0) == (narrow and layer is ours)
    for got, wanted in zip(*found, strict=True):
        torch.testing.assert_close(got, wanted)


def test_narrow_convolution_twice_differentiated_and_one_image_alone():
    torch.manual_seed(0)
    layer = NarrowConv2d(14, 1, 3, padding=1).double()
    images = torch.randn(1, 14, 3, 2, dtype=torch.double, requires_grad=True)
    assert gradgradcheck(lambda x: layer(x).sin(), images)
    torch.testing.assert_close(layer(images[0]), layer(images)[0])


def test_narrow_convolution_under_autocast_has_its_dtype():
    layer, images = NarrowConv2d(14, 2, 1), torch.randn(2, 14, 4, 4)
    exact = layer(images)
    with torch.autocast("cpu", torch.bfloat16):
        output = layer(images)
    assert output.dtype == torch.bfloat16
    torch.testing.assert_close(output.float(), exact, atol=0.05, rtol=0.02)


@pytest.mark.parametrize(("few", "kernel"), [(1, (3, 3)), (1, (5, 3)), (2, (1, 1)), (2, (3, 1))])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_a_convolution_from_few_channels_and_its_transpose_are_those_of_torch(few, kernel, memory_format):
    torch.manual_seed(0)
    layer = nn.Conv2d(few, 24, kernel, padding=(kernel[0] // 2, kernel[1] // 2)).double()
    layer = layer.to(memory_format=memory_format)
    images = torch.randn(3, few, 6, 7).double().to(memory_format=memory_format).requires_grad_()
    e = torch.randn(3, 24, 6, 7).double().to(memory_format=memory_format).requires_grad_()
    assert is_narrow(layer, images)
    pairs = [
        (narrow_conv2d, lambda *given: functional.conv2d(*given, 1, layer.padding), [images, layer.weight, layer.bias]),
        (
            narrow_transposed_conv2d,
            lambda *given: functional.conv_transpose2d(*given, None, 1, layer.padding),
            [e, layer.weight],
        ),
    ]
    for ours, theirs, given in pairs:
        found = []
        for function in (ours, theirs):
            output = function(*given)
            first = torch.autograd.grad(output.sin().sum(), given, create_graph=True)
            second = torch.autograd.grad(sum(each.cos().sum() for each in first), given)
            found.append([output, *first, *second])
        for got, wanted in zip(*found, strict=True):
            torch.testing.assert_close(got, wanted)


def test_the_pull_back_of_a_convolution_from_few_channels_can_be_differentiated():
    torch.manual_seed(0)
    layer = nn.Conv2d(1, 14, 3, padding=1).double()
    x = torch.randn(2, 1, 3, 4, dtype=torch.double, requires_grad=True)
    e = torch.randn(2, 14, 3, 4, dtype=torch.double, requires_grad=True)

    def both(x, e, *_):
        output, pull = vjp(layer, x)
        return output, pull(e)

    assert gradcheck(both, (x, e, *layer.parameters()))
    assert gradgradcheck(both, (x, e, *layer.parameters()))


@pytest.mark.parametrize(
    "arguments",
    [
        {"out_channels": 13},
        {"stride": 2},
        {"padding": 0},
        {"padding": "same"},
        {"kernel_size": (3, 2), "padding": (1, 1)},
        {"dilation": 2},
        {"padding_mode": "circular"},
    ],
)
def test_other_convolutions_are_left_to_torch(arguments):
    plain = {"in_channels": 1, "out_channels": 14, "kernel_size": 3, "padding": 1}
    images = torch.randn(2, 1, 6, 6)
    assert is_narrow(nn.Conv2d(**plain), images)
    assert not is_narrow(nn.Conv2d(**plain | arguments), images)
    with speed.switched(False):
        assert not is_narrow(nn.Conv2d(**plain), images)
