r"""The gradient flow accelerated by Anderson mixing (D. G. Anderson, *J. ACM* 12, 1965).

Of the latest steps and the changes of the error that they made, the combination is taken that minimises the linearised
error. What it leaves of the error, :math:`\hat e`, is pulled back: :math:`-\beta J^\top \hat e` with
:math:`\beta = \lVert \hat e \rVert^2 / \lVert J^\top \hat e \rVert^2`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .search import Search, minimising_step, restricted

__all__ = ["anderson"]


def anderson(search: Search, index: Tensor, memory: int = 20) -> None:
    """Iterate until a step fails to lower the error: there is no line search."""
    x = search.input[index]
    error, pull = search.evaluate(index, x)
    # Per sample the latest steps and their changes of the error, shapes (n, m, D) and (n, m, K), m <= memory.
    steps, changes = x.new_empty(len(x), 0, x.shape[1]), error.new_empty(len(x), 0, error.shape[1])
    while True:
        live = search.active(index, cost=2)
        if not bool(live.any()):
            return
        mixed, remaining = _mix(error, steps, changes)
        gradient = pull(remaining)
        search.spend(index[live])
        step = search.bounded(mixed - minimising_step(remaining, gradient).unsqueeze(1) * gradient)

        index, x, step, steps, changes, before = (each[live] for each in (index, x, step, steps, changes, error))
        x = x + step
        error, pull = search.evaluate(index, x)
        falls = error.norm(dim=1) < before.norm(dim=1)
        steps = torch.cat([steps, step.unsqueeze(1)], 1)[:, -memory:]
        changes = torch.cat([changes, (error - before).unsqueeze(1)], 1)[:, -memory:]
        pull = restricted(pull, falls)
        index, x, error, steps, changes = (each[falls] for each in (index, x, error, steps, changes))


def _mix(error: Tensor, steps: Tensor, changes: Tensor, regularisation: float = 1e-10) -> tuple[Tensor, Tensor]:
    r"""Return the combination of steps that minimises the linearised error, and that error.

    The weights solve the least-squares problem by its normal equations. The changes become parallel as the search
    converges, hence unit vectors, float64 and a little regularisation.
    """
    if not changes.shape[1]:
        return torch.zeros_like(steps.sum(1)), error
    lengths = changes.double().norm(dim=2, keepdim=True).clamp_min(torch.finfo(torch.double).tiny)
    units = changes.double() / lengths
    gram = units @ units.mT + regularisation * torch.eye(units.shape[1]).to(units)
    weights = -torch.linalg.solve(gram, units @ error.double().unsqueeze(2))
    remaining = error + (units.mT @ weights).squeeze(2).to(error)
    return (steps.mT @ (weights / lengths).to(steps)).squeeze(2), remaining
