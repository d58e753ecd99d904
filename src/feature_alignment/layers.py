"""Layers, and what becomes of linear ones that follow each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["Affine", "Arcsinh", "Cast", "NarrowConv2d", "composed", "hooked"]


class Arcsinh(nn.Module):
    r"""Inverse hyperbolic sine, :math:`\ln(x + \sqrt{1 + x^2})`: invertible, unbounded, smooth (§3.4)."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the inverse hyperbolic sine of each element."""
        return torch.asinh(x)


class NarrowConv2d(nn.Conv2d):
    """:class:`torch.nn.Conv2d`, on a CPU quicker where it leads from many channels to one or a few.

    There a convolution works on as many output channels at once as a register has room for, and most of it stays empty.
    A product of matrices followed by a sum over the shifts of the kernel does the same and fills it.
    """

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        """Return the convolution of ``input``, shape ``(N, C, H, W)``."""
        height, width = self.kernel_size
        maps = self.out_channels * height * width
        centred = height % 2 == width % 2 == 1 and self.padding == (height // 2, width // 2)
        plain = {*self.stride, *self.dilation, self.groups} == {1} and self.padding_mode == "zeros"
        # Beyond two thirds the sum over the shifts takes longer than the product saves.
        if input.device.type != "cpu" or input.ndim != 4 or not (centred and plain) or 3 * maps > 2 * self.in_channels:
            return super().forward(input)
        # A pixel adds to the one at (-i, -j) from it its product with the weight at (i, j).
        weight = self.weight.flip(2, 3).permute(0, 2, 3, 1).reshape(maps, self.in_channels)
        products = functional.linear(input.permute(0, 2, 3, 1), weight).flatten(1, 2).mT
        output = functional.fold(products, input.shape[2:], (height, width), padding=(height // 2, width // 2))
        return output if self.bias is None else output + self.bias.view(-1, 1, 1).to(output.dtype)


@dataclass(frozen=True, eq=False)
class Affine:
    """The weight, shape ``(K, D)``, and the bias, shape ``(K,)``, of an affine map."""

    weight: Tensor
    bias: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """Apply the map to shape ``(..., D)``."""
        return functional.linear(x, self.weight, self.bias)


@dataclass(frozen=True, eq=False)
class Cast:
    """The change to a dtype."""

    dtype: torch.dtype

    def __call__(self, x: Tensor) -> Tensor:
        """Return ``x`` in the dtype."""
        return x.to(self.dtype)


def composed(first: nn.Linear, heads: Sequence[nn.Linear]) -> Affine:
    r"""Return the one affine map that a linear layer and the heads after it, side by side, make up: differentiable.

    .. math::
        W_2 (W_1 x + b_1) + b_2 = (W_2 W_1) x + (W_2 b_1 + b_2)

    What goes through it more than once, forwards or backwards, is spared the wide layer between, at the price of one
    product of weights: the order in which three matrices are multiplied.

    Args:
        first: ``D`` numbers in; with a bias.
        heads: ``K`` numbers out, together; with biases.
    """
    weight = torch.cat([head.weight for head in heads])
    return Affine(
        weight @ first.weight, functional.linear(first.bias, weight, torch.cat([head.bias for head in heads]))
    )


def hooked(*modules: nn.Module) -> bool:
    """Say whether a module has hooks, such as spectral normalisation's: they run only where the module is called."""
    kinds = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")
    return any(getattr(module, kind) for module in modules for kind in kinds)
