"""Rules for pulling back through common layers, one per type."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..layers import Arcsinh, Cast
from ..speed.convolution import NarrowConv2d, is_narrow, narrow_conv2d, narrow_transposed_conv2d
from ..speed.elementwise import pulled_back, scaled
from ..speed.fusion import Affine
from ..speed.weights import uses_of
from ..structures import Network, Structure
from .autodiff import attempt, by_differentiation, differentiated, leaving_its_input
from .vjp import Chain, PullBack, Rule, register_pull_back, vjp

__all__ = ["Chain", "PullBack", "differentiated", "leaving_its_input", "register_pull_back", "transposed_conv2d", "vjp"]


def transposed_conv2d(
    output: Tensor,
    weight: Tensor,
    size: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
    groups: int,
) -> Tensor:
    """Apply the transpose of a convolution to its ``output``: shape ``(N, C, *size)``."""
    # Pixels at the far border that the stride leaves out.
    skipped = [
        whole - ((length - 1) * step - 2 * pad + spacing * (kernel - 1) + 1)
        for whole, length, step, pad, spacing, kernel in zip(
            size, output.shape[-2:], stride, padding, dilation, weight.shape[-2:], strict=True
        )
    ]
    return functional.conv_transpose2d(output, weight, None, stride, padding, skipped, groups, dilation)


def _affine(layer: Affine | nn.Linear, x: Tensor) -> tuple[Tensor, PullBack]:
    weight = layer.weight  # read once: a parametrised weight (spectral norm) is recomputed at every access
    uses = uses_of(weight, x)
    if uses is not None:
        return uses.linear(x, layer.bias), uses.transposed
    return functional.linear(x, weight, layer.bias), lambda e: (e @ weight).to(x.dtype)


def _conv2d(layer: nn.Conv2d, x: Tensor) -> tuple[Tensor, PullBack]:
    if layer.padding_mode != "zeros" or isinstance(layer.padding, str) or x.ndim != 4:
        return by_differentiation(layer, x)
    if is_narrow(layer, x):
        narrow = layer.weight
        return narrow_conv2d(x, narrow, layer.bias), lambda e: narrow_transposed_conv2d(e, narrow)
    weight, geometry = layer.weight, (layer.stride, layer.padding, layer.dilation, layer.groups)
    # A narrow one computes its output in its own way.
    output = layer(x) if isinstance(layer, NarrowConv2d) else functional.conv2d(x, weight, layer.bias, *geometry)
    # Autocast chooses the dtype of the product.
    return output, lambda e: transposed_conv2d(e, weight, x.shape[2:], *geometry).to(x.dtype)


def _conv_transpose2d(layer: nn.ConvTranspose2d, x: Tensor) -> tuple[Tensor, PullBack]:
    if x.ndim != 4:
        return by_differentiation(layer, x)
    weight, (height, width) = layer.weight, x.shape[2:]
    stride, dilation, groups = layer.stride, layer.dilation, layer.groups
    padding = cast(tuple[int, ...], layer.padding)  # a name is refused by the layer
    output = functional.conv_transpose2d(x, weight, layer.bias, stride, padding, layer.output_padding, groups, dilation)

    def pull(e: Tensor) -> Tensor:
        # An output padding of a stride or more adds pixels beyond those that the input reaches.
        whole = functional.conv2d(e, weight, None, stride, padding, dilation, groups)
        return whole[..., :height, :width].to(x.dtype)

    return output, pull


def _cast(change: Cast, x: Tensor) -> tuple[Tensor, PullBack]:
    return change(x), lambda e: e.to(x.dtype)


def _reshape(layer: nn.Flatten | nn.Unflatten, x: Tensor) -> tuple[Tensor, PullBack]:
    output = layer(x)
    if output.shape[:1] != x.shape[:1]:
        return by_differentiation(layer, x)
    return output, lambda e: e.reshape(e.shape[0], *x.shape[1:])


def _leaky(layer: nn.LeakyReLU | nn.ReLU, x: Tensor) -> tuple[Tensor, PullBack]:
    slope = layer.negative_slope if isinstance(layer, nn.LeakyReLU) else 0.0
    if slope < 0:
        return _elementwise(layer, x)
    output = layer(x)
    sign = output.detach()  # its own: an activation in place leaves nothing of its input
    return output, lambda e: cast(Tensor, torch.ops.aten.leaky_relu_backward(e, sign, slope, True))


def _clipped(layer: nn.Hardtanh, x: Tensor) -> tuple[Tensor, PullBack]:
    inside = (x > layer.min_val) & (x < layer.max_val)  # before an activation in place overwrites x
    return layer(x), lambda e: e * inside


def _hard_sigmoid(layer: nn.Hardsigmoid, x: Tensor) -> tuple[Tensor, PullBack]:
    slopes = ((x > -3) & (x < 3)).to(x.dtype) / 6
    # In place it would turn the sign of a ReLU before it, which is kept.
    return leaving_its_input(layer)(x), lambda e: e * slopes


def _elementwise(function: Network, x: Tensor) -> tuple[Tensor, PullBack]:
    return pulled_back(function, x) or _by_slopes(function, x)


def _by_slopes(function: Network, x: Tensor) -> tuple[Tensor, PullBack]:
    def quickly() -> tuple[Structure, PullBack]:
        return differentiated(leaving_its_input(function), x)

    # torch.func refuses under hooks for saved tensors, as checkpoints have them.
    found: Any = quickly() if torch.compiler.is_compiling() else attempt(quickly)
    output, pull_back = found or by_differentiation(function, x)
    slopes = pull_back(torch.ones_like(output))
    return output, lambda e: scaled(e, slopes)


_KINDS: dict[Rule, tuple[Any, ...]] = {
    _affine: (Affine, nn.Linear),
    _cast: (Cast,),
    _conv2d: (nn.Conv2d, NarrowConv2d),
    _conv_transpose2d: (nn.ConvTranspose2d,),
    _reshape: (nn.Flatten, nn.Unflatten),
    _leaky: (nn.LeakyReLU, nn.ReLU),
    _clipped: (nn.Hardtanh, nn.ReLU6),
    _hard_sigmoid: (nn.Hardsigmoid,),
    _elementwise: (
        *(nn.ELU, nn.GELU, nn.Mish, nn.SELU, nn.Sigmoid, nn.SiLU, nn.Softplus, nn.Tanh, Arcsinh),
        *(torch.sigmoid, torch.tanh),
    ),
}
for _rule, _kinds in _KINDS.items():
    for _kind in _kinds:
        register_pull_back(_kind, _rule)
