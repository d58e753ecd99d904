"""Steps whose graph is built again in the backward pass, so that only their inputs are kept until then.

:func:`torch.utils.checkpoint.checkpoint` does that for other computations, but not for vector-Jacobian products of
:mod:`torch.func`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils import _pytree as pytree

from ..checks import Structure

__all__ = ["graph_leaves", "recomputed"]


class _Recompute(torch.autograd.Function):
    """A step whose graph is built in the backward pass, and only for as long as that takes."""

    @staticmethod
    def forward(ctx: Any, step: Callable[..., Tensor], inputs: int, *tensors: Tensor) -> Tensor:
        ctx.step, ctx.inputs = step, inputs
        ctx.save_for_backward(*tensors)
        device = tensors[0].device.type
        ctx.autocast = (device, torch.get_autocast_dtype(device), torch.is_autocast_enabled(device))
        return step(*tensors[:inputs])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor | None, ...]:
        tensors, needed = ctx.saved_tensors, ctx.needs_input_grad[2:]
        given = [
            tensor.detach().requires_grad_(wanted)
            for tensor, wanted in zip(tensors[: ctx.inputs], needed, strict=False)
        ]
        tensors = [*given, *tensors[ctx.inputs :]]
        with torch.enable_grad(), torch.autocast(*ctx.autocast):
            result = ctx.step(*given)
        gradients = iter(
            torch.autograd.grad(
                result,
                [tensor for tensor, wanted in zip(tensors, needed, strict=True) if wanted],
                cotangent,
                retain_graph=True,  # of what lies before the network's own computation
                allow_unused=True,
            )
        )
        return None, None, *(next(gradients) if wanted else None for wanted in needed)


def recomputed(
    step: Callable[[Tensor, Any, Structure], Tensor],
    iterate: Tensor,
    size: float | Tensor,
    target: Structure,
    leaves: list[Tensor],
) -> Tensor:
    """Take a step that the backward pass repeats; ``leaves`` are what the network depends on."""
    parts, structure = pytree.tree_flatten(target)
    scale = torch.as_tensor(size, dtype=iterate.dtype, device=iterate.device)

    def flat(iterate: Tensor, scale: Tensor, *parts: Tensor) -> Tensor:
        return step(iterate, scale, pytree.tree_unflatten(list(parts), structure))

    return cast(Tensor, _Recompute.apply(flat, 2 + len(parts), iterate, scale, *parts, *leaves))


def graph_leaves(output: Structure) -> list[Tensor]:
    """Return the tensors, such as parameters, that a gradient of ``output`` would end at."""
    waiting = [leaf.grad_fn for leaf in pytree.tree_leaves(output) if isinstance(leaf, Tensor)]
    seen, found = set(), []
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            found.append(node.variable)
        waiting += [following for following, _ in node.next_functions]
    return found
