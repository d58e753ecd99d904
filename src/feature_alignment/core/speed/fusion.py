"""Consecutive linear layers fused into one affine map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules import module as torch_module

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
    r"""Fuse a linear layer and the heads side by side after it into one affine map, differentiable.

    .. math::
        W_2 (W_1 x + b_1) + b_2 = (W_2 W_1) x + (W_2 b_1 + b_2)

    Forwards and backwards then bypass the wide layer between, at the price of one product of weights. Whoever calls
    this asks :func:`feature_alignment.core.speed.enabled` first.

    Args:
        first: ``D`` numbers in; with a bias.
        heads: ``K`` numbers out, together; with biases.
    """
    weight = torch.cat([head.weight for head in heads])
    bias = torch.cat([head.bias for head in heads])
    return Affine(weight @ first.weight, functional.linear(first.bias, weight, bias))


def hooked(*modules: nn.Module) -> bool:
    """Say whether a module, or every one, has hooks, such as spectral normalisation's: they run where it is called."""
    kinds = ("forward_pre_hooks", "forward_hooks", "backward_pre_hooks", "backward_hooks")
    of_all = any(getattr(torch_module, f"_global_{kind}") for kind in kinds)
    return of_all or any(getattr(module, f"_{kind}") for module in modules for kind in kinds)
