"""Consecutive linear layers fused into one affine map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["Affine", "composed", "hooked"]


@dataclass(frozen=True, eq=False)
class Affine:
    """The weight, shape ``(K, D)``, and the bias, shape ``(K,)``, of an affine map."""

    weight: Tensor
    bias: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """Apply the map to shape ``(..., D)``."""
        return functional.linear(x, self.weight, self.bias)


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
