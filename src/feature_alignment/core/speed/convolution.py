"""Convolutions, and transposed ones, to few channels: matrix products and sums over shifts, faster on a CPU."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from . import applies_to, enabled

__all__ = ["NarrowConv2d", "is_narrow", "narrow_conv2d", "narrow_transposed_conv2d"]


class NarrowConv2d(nn.Conv2d):
    """:class:`torch.nn.Conv2d`, faster on a CPU from many channels to one or a few.

    The usual kernel computes as many output channels at once as fit a vector register, most of which stays empty here.
    A matrix product followed by a sum over the kernel's shifts computes the same and fills it.
    """

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        """Return the convolution of ``input``, shape ``(N, C, H, W)``."""
        if not (enabled() and self._is_narrow() and input.device.type == "cpu" and input.ndim == 4):
            return super().forward(input)
        (height, width), maps = self.kernel_size, self.weight[:, 0].numel()
        # A pixel adds to the one at (-i, -j) from it its product with the weight at (i, j).
        weight = self.weight.flip(2, 3).permute(0, 2, 3, 1).reshape(maps, self.in_channels)
        products = functional.linear(input.permute(0, 2, 3, 1), weight).flatten(1, 2).mT
        output = functional.fold(products, input.shape[2:], (height, width), padding=(height // 2, width // 2))
        return output if self.bias is None else output + self.bias.view(-1, 1, 1).to(output.dtype)

    def _is_narrow(self) -> bool:
        height, width = self.kernel_size
        centred = height % 2 == width % 2 == 1 and self.padding == (height // 2, width // 2)
        plain = {*self.stride, *self.dilation, self.groups} == {1} and self.padding_mode == "zeros"
        # Beyond two thirds the sum over the shifts takes longer than the product saves.
        return centred and plain and 3 * self.out_channels * height * width <= 2 * self.in_channels


def is_narrow(layer: nn.Conv2d, x: Tensor) -> bool:
    """Whether :func:`narrow_conv2d` computes this convolution of ``x``, shape ``(N, C, H, W)``, and its transpose."""
    height, width = layer.kernel_size
    centred = height % 2 == width % 2 == 1 and layer.padding == (height // 2, width // 2)
    plain = {*layer.stride, *layer.dilation, layer.groups} == {1} and layer.padding_mode == "zeros"
    few = 3 * layer.in_channels * height * width <= 2 * layer.out_channels
    return centred and plain and few and applies_to(x)


def narrow_conv2d(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Convolve few channels to many, the kernel centred; the derivative by ``x`` is the function below."""
    if not applies_to(x):
        return functional.conv2d(x, weight, bias, 1, _half(weight))
    return cast(Tensor, _Convolution.apply(x, weight, bias))


def narrow_transposed_conv2d(output: Tensor, weight: Tensor) -> Tensor:
    """Apply the transpose of :func:`narrow_conv2d`, from many channels to few."""
    if not applies_to(output):
        return functional.conv_transpose2d(output, weight, None, 1, _half(weight))
    return cast(Tensor, _Transposed.apply(output, weight))


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return functional.conv2d(x, weight, bias, 1, _half(weight))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        of_x, of_weight, of_bias = ctx.needs_input_grad
        image = narrow_transposed_conv2d(gradient, weight) if of_x else None
        return image, *_of_weight(gradient, x, weight, of_weight, of_bias)


class _Transposed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, output: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(output, weight)
        (many, few, *kernel), (count, _, *size) = weight.shape, output.shape
        # A pixel adds to the one at (i, j) from it, from the centre, its product with the weight at (i, j).
        products = weight.reshape(many, -1).T @ output.permute(0, 2, 3, 1).reshape(-1, many).T
        return _sum_of_shifts(products.view(few, *kernel, count, *size)).transpose(0, 1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        output, weight = ctx.saved_tensors
        of_output, of_weight = ctx.needs_input_grad
        back = narrow_conv2d(gradient, weight, None) if of_output else None
        return back, _of_weight(output, gradient, weight, of_weight, False)[0]


def _half(weight: Tensor) -> tuple[int, ...]:
    """Return the padding of a centred kernel."""
    return tuple(side // 2 for side in weight.shape[2:])


def _of_weight(
    output: Tensor, x: Tensor, weight: Tensor, of_weight: bool, of_bias: bool
) -> tuple[Tensor | None, Tensor | None]:
    """Return the derivatives of a convolution by weight and bias, given that by its output."""
    if not (of_weight or of_bias):
        return None, None
    biases, ones, mask = [len(weight)], [1, 1], [False, of_weight, of_bias]
    found = torch.ops.aten.convolution_backward(
        output, x, weight, biases, ones, _half(weight), ones, False, [0, 0], 1, mask
    )
    return found[1], found[2]


def _sum_of_shifts(planes: Tensor) -> Tensor:
    """Add up planes, shape ``(C, h, w, N, H, W)``, the one at ``(i, j)`` shifted by that from the centre."""
    channels, height, width, count, rows, columns = planes.shape
    whole = planes.new_zeros(channels, count, rows + height - 1, columns + width - 1)
    for i in range(height):
        for j in range(width):
            whole[..., i : i + rows, j : j + columns] += planes[:, i, j]
    return whole[..., height // 2 :, width // 2 :][..., :rows, :columns].contiguous()
