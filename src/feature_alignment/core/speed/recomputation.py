"""Gradients whose graph is recomputed in the backward pass, so that only their inputs are stored.

:func:`torch.utils.checkpoint.checkpoint` does not support vector-Jacobian products of :mod:`torch.func`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.utils import _pytree as pytree

from ..graphs import graph_leaves
from ..structures import Network, Structure, tensors

__all__ = ["Gradient", "recomputed"]

#: From network, target and point to the gradient there and the residual, as :func:`input_gradient` has it.
Gradient: TypeAlias = Callable[[Network, Structure, Tensor], tuple[Tensor, Structure]]


def recomputed(gradient: Gradient, leaves: Sequence[Tensor]) -> Gradient:
    """Return ``gradient``, keeping its inputs only; no graph leads through the residual.

    ``leaves`` are the tensors, such as parameters, that the network depends on besides its input.
    """

    def keeping_inputs(network: Network, target: Structure, point: Tensor) -> tuple[Tensor, Structure]:
        parts, structure = pytree.tree_flatten(target)
        present = [part is not None for part in parts]

        def flat(point: Tensor, *given: Tensor) -> tuple[Tensor, ...]:
            found = iter(given)
            whole = [next(found) if there else None for there in present]
            pulled, residual = gradient(network, pytree.tree_unflatten(whole, structure), point)
            return pulled, *tensors(residual)

        given = tensors(target)
        pulled, *residuals = _Recompute.apply(flat, 1 + len(given), point, *given, *leaves)
        found = iter(residuals)
        return pulled, pytree.tree_unflatten([next(found) if there else None for there in present], structure)

    return keeping_inputs


class _Recompute(torch.autograd.Function):
    """A function whose graph is built and freed within the backward pass."""

    @staticmethod
    def forward(ctx: Any, function: Callable[..., Any], inputs: int, *given: Tensor) -> tuple[Tensor, ...]:
        ctx.function, ctx.inputs = function, inputs
        ctx.leaves = given[inputs:]  # themselves: what is saved may come back as a copy
        ctx.save_for_backward(*given)
        device = given[0].device.type
        ctx.autocast = (device, torch.get_autocast_dtype(device), torch.is_autocast_enabled(device))
        result, *others = function(*given[:inputs])
        ctx.mark_non_differentiable(*others)
        return result, *others

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, cotangent: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        saved, needed = ctx.saved_tensors, ctx.needs_input_grad[2:]
        own = zip(saved[: ctx.inputs], needed, strict=False)
        inputs = [tensor.detach().requires_grad_(wanted) for tensor, wanted in own]
        with torch.enable_grad(), torch.autocast(*ctx.autocast):
            result = ctx.function(*inputs)[0]
        known = set(map(id, (*inputs, *ctx.leaves)))
        if any(isinstance(leaf, nn.Parameter) and id(leaf) not in known for leaf in graph_leaves(result)):
            raise RuntimeError(
                "recompute: the network has parameters that it does not use at the first start; give it as a module, "
                "or leave recompute out"
            )
        everything = zip([*inputs, *ctx.leaves], needed, strict=True)
        wanted = [tensor for tensor, wanted in everything if wanted]
        # The graph that leads to what the network captured is kept: other steps need it too.
        found = iter(torch.autograd.grad(result, wanted, cotangent, retain_graph=True, allow_unused=True))
        return None, None, *(next(found) if wanted else None for wanted in needed)
