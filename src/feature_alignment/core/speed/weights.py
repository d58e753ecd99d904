"""The gradient of a large weight that is used several times in an update, as one product.

Autograd adds up one matrix for every use: by the layer, by its pull-back, in the start and in every step. Each is
written to memory and read again. One product of all the factors, below each other, is written once.
"""

from __future__ import annotations

import weakref
from collections import defaultdict
from typing import Any, TypeAlias, cast

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.weak import WeakTensorKeyDictionary

from . import applies_to

__all__ = ["Uses", "uses_of"]

#: Weights of fewer numbers are not worth it.
LARGE = 2**18
#: By the number of the backward pass: the pairs whose products are summed.
Factors: TypeAlias = dict[int, list[tuple[Tensor, Tensor]]]

_alive: WeakTensorKeyDictionary = WeakTensorKeyDictionary()


class Uses:
    """Applies a weight, shape ``(K, D)``, and its transpose; lives as long as a graph of one of its uses."""

    def __init__(self, weight: Tensor) -> None:
        self.version = weight._version
        self.factors: Factors = defaultdict(list)
        self.weight: Tensor = _Gathered.apply(weight, self.factors)

    def linear(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """Return ``x @ weight.T + bias``, for ``x`` of shape ``(N, D)``."""
        return cast(Tensor, _Linear.apply(x, self.weight, bias, self))

    def transposed(self, e: Tensor) -> Tensor:
        """Return ``e @ weight``, for ``e`` of shape ``(N, K)``."""
        return cast(Tensor, _Transposed.apply(e, self.weight, self)) if applies_to(e) else e @ self.weight

    def add(self, left: Tensor, right: Tensor) -> Tensor | None:
        """Put ``left.T @ right`` to the gradient: return it if it is to be differentiated, otherwise keep the two."""
        if torch.is_grad_enabled():
            return left.T @ right
        if torch._C._will_engine_execute_node(self.weight.grad_fn):  # type: ignore[arg-type]
            self.factors[torch._C._current_graph_task_id()].append((left, right))
        return None


def uses_of(weight: Tensor, x: Tensor) -> Uses | None:
    """Return what stands for the weight in the graph that is being built, or None where that gains nothing."""
    wanted = weight.requires_grad and torch.is_grad_enabled() and weight.numel() >= LARGE
    if not wanted or x.ndim != 2 or not applies_to(x):
        return None
    known = _alive.get(weight)
    uses: Uses | None = None if known is None else known()
    # A graph of before the last update may still be alive, as that of a loss is in a plain training loop.
    if uses is None or uses.weight.data_ptr() != weight.data_ptr() or uses.version != weight._version:
        uses = Uses(weight)
        _alive[weight] = weakref.ref(uses)
    return uses


class _Gathered(torch.autograd.Function):
    """The weight itself; its gradient is that of all uses, which the engine has gone through before."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, factors: Factors) -> Tensor:
        ctx.set_materialize_grads(False)
        ctx.factors = factors
        return weight.view_as(weight)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor | None) -> tuple[Tensor | None, None]:
        pairs = ctx.factors.pop(torch._C._current_graph_task_id(), [])
        if pairs:
            left, right = (torch.cat(each) for each in zip(*pairs, strict=True))
            gradient = left.T @ right if gradient is None else torch.addmm(gradient, left.T, right)
        return gradient, None


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, uses: Uses) -> Tensor:
        ctx.uses = uses
        ctx.save_for_backward(x, weight)
        return functional.linear(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        of_x, _, of_bias, _ = ctx.needs_input_grad
        whole = ctx.uses.add(gradient, x)
        return gradient @ weight if of_x else None, whole, gradient.sum(0) if of_bias else None, None


class _Transposed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, e: Tensor, weight: Tensor, uses: Uses) -> Tensor:
        ctx.uses = uses
        ctx.save_for_backward(e, weight)
        return e @ weight

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        e, weight = ctx.saved_tensors
        whole = ctx.uses.add(e, gradient)
        return functional.linear(gradient, weight) if ctx.needs_input_grad[0] else None, whole, None
