r"""Damped Gauss-Newton (Deuflhard, *Newton Methods for Nonlinear Problems*, 2004, §4).

The shortest :math:`s` with :math:`J s = -e` is sought by CGLS, which minimises the residual at every iteration and
tolerates a singular :math:`J J^\top` (Hestenes and Stiefel, *J. Res. NBS* 49, 1952, §10), until half of the error is
left.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..pullback import transposed
from .backtracking import Backtracking
from .search import Pull, Search, restricted

__all__ = ["gauss_newton"]


def gauss_newton(
    search: Search, index: Tensor, *, steps: float = math.inf, reduction: float = 0.5, most: int = 50
) -> None:
    """Iterate until the line search finds no decrease along a direction, or so many ``steps`` are taken.

    Each step is a solution of the linearised problem up to ``reduction`` of the error, by at most ``most`` iterations.
    """
    index = index[search.active(index, cost=3)]
    if not len(index):
        return
    x = search.input[index]
    error, pull = search.evaluate(index, x)
    line = Backtracking(x, error.norm(dim=1))
    taken = torch.zeros_like(index)
    while True:
        live = search.active(index) & ~line.exhausted & (taken < steps)
        if not bool(live.all()):
            index, error, taken, pull = index[live], error[live], taken[live], restricted(pull, live)
            line.keep(live)
        if not len(index):
            return
        direction = _direction(search, index, line.finished, error, pull, reduction, most)
        line.follow(line.finished, search.bounded(direction))
        trial = line.trial()
        tried, pull = search.evaluate(index, trial)
        norm = tried.norm(dim=1)
        slope = -line.value  # of the norm along s: it would vanish at the whole step
        accepted = line.accepts(norm, slope)
        line.advance(accepted, trial, norm, slope)
        taken = taken + accepted
        error = torch.where(accepted.unsqueeze(1), tried, error)


def _direction(
    search: Search, index: Tensor, mask: Tensor, error: Tensor, pull: Pull, reduction: float, most: int
) -> Tensor:
    r"""Minimise :math:`\lVert J s + e \rVert` by CGLS until it is ``reduction`` times :math:`\lVert e \rVert`.

    Returned is :math:`s`, zero for the samples outside ``mask``. The names are those of Björck, *Numerical Methods for
    Least Squares Problems*, 1996, algorithm 7.4.1.
    """
    r, x = -error, error.new_zeros(len(error), search.input.shape[1])
    goal = reduction * reduction * r.square().sum(1)
    mask = mask & search.active(index, cost=3)
    if not bool(mask.any()):
        return x
    s, push = _gradient_and_push(pull, r)
    p, gamma = s, s.square().sum(1)
    search.spend(index[mask])
    for iteration in range(most):
        q = push(p)
        search.spend(index[mask])
        if iteration == 0:
            _check_adjoint(q[mask], r[mask], gamma[mask])
        square = q.square().sum(1)
        alpha = torch.where(mask & (square > 0), gamma / square, torch.zeros_like(gamma)).unsqueeze(1)
        x, r = x + alpha * p, r - alpha * q
        mask = mask & (square > 0) & (r.square().sum(1) > goal) & search.active(index, cost=3)
        if not bool(mask.any()):
            break
        s = pull(r)
        search.spend(index[mask])
        before, gamma = gamma, s.square().sum(1)
        p = torch.where(mask.unsqueeze(1), s + (gamma / before).unsqueeze(1) * p, p)
    return x


def _check_adjoint(q: Tensor, r: Tensor, gamma: Tensor) -> None:
    r"""Raise a RuntimeError unless :math:`\langle J s, r \rangle = \langle s, J^\top r \rangle`, :math:`s = J^\top r`.

    PyTorch returns zeros for :math:`J s`, without an error, if a function is marked ``once_differentiable``.
    """
    rounding = math.sqrt(torch.finfo(r.dtype).eps) * q.norm(dim=1) * r.norm(dim=1)
    if bool((((q * r).sum(1) - gamma).abs() > 0.1 * gamma + rounding).any()):
        raise RuntimeError("network: J v contradicts J^T e, as if an operation in it had no second derivative")


def _gradient_and_push(pull: Pull, r: Tensor) -> tuple[Tensor, Pull]:
    r"""Return :math:`J^\top r` and :math:`v \mapsto J v`, for a single evaluation of the pull-back."""
    pulled = []

    def shifted(zeros: Tensor) -> Tensor:  # the pull-back is linear: the shift does not change its transpose
        pulled.append(pull(zeros + r))
        return pulled[0]

    push = transposed(shifted, r)
    return pulled[0].detach(), push
