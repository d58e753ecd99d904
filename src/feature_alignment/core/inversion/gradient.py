r"""The plain gradient flow of equation 1, with the step size :math:`1 / \sigma^2` that is stable at the start."""

from __future__ import annotations

import torch
from torch import Tensor

from ..linearization import largest_singular_value
from ..structures import wide
from .search import Search, restricted

__all__ = ["gradient"]


def gradient(search: Search, index: Tensor, iterations: int = 8) -> None:
    """Iterate until the budget is spent; the step size is halved after every step that raised the error."""
    index = index[search.active(index, cost=2 * iterations + 4)]
    if not len(index):
        return
    x = search.input[index]
    sigma = wide(largest_singular_value(search.network, search.inputs(x), iterations)[0])
    search.spend(index, cost=2 * iterations + 2)  # its evaluation and linearisation, and two products an iteration
    size = sigma.square().clamp_min(torch.finfo(x.dtype).tiny).reciprocal()
    error, pull = search.evaluate(index, x)
    while True:
        live = search.active(index, cost=2) & torch.isfinite(error).all(1)
        if not bool(live.all()):
            index, x, error, size, pull = index[live], x[live], error[live], size[live], restricted(pull, live)
        if not len(index):
            return
        before, x = error, x - search.bounded(size.unsqueeze(1) * pull(error))
        search.spend(index)
        error, pull = search.evaluate(index, x)
        size = torch.where(error.norm(dim=1) > before.norm(dim=1), size / 2, size)
