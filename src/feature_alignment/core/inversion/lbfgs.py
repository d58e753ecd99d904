"""The limited-memory quasi-Newton method L-BFGS (Liu and Nocedal, *Math. Programming* 45, 1989)."""

from __future__ import annotations

import torch
from torch import Tensor

from .backtracking import Backtracking
from .search import Search, half_square, minimising_step

__all__ = ["lbfgs"]


def lbfgs(search: Search, index: Tensor, memory: int = 20) -> None:
    """Iterate until the line search finds no decrease even along the negative gradient."""
    index = index[search.active(index, cost=2)]
    if not len(index):
        return
    x = search.input[index]
    error, pull = search.evaluate(index, x)
    gradient = pull(error)
    search.spend(index)
    line = Backtracking(x, half_square(error), interpolate=True)
    pairs = _Pairs(x, memory, minimising_step(error, gradient))
    while True:
        live = search.active(index, cost=2) & ~(line.exhausted & pairs.empty)
        if not bool(live.all()):
            index, gradient = index[live], gradient[live]
            line.keep(live)
            pairs.keep(live)
        if not len(index):
            return
        pairs.forget(line.exhausted)  # then the direction is the negative gradient
        line.follow(line.finished | line.exhausted, search.bounded(-pairs.inverse_hessian(gradient)))
        slope = (line.direction * gradient).sum(1)

        trial = line.trial()
        error, pull = search.evaluate(index, trial)
        accepted = line.accepts(half_square(error), slope)
        new_gradient = gradient
        if bool(accepted.any()):
            # A rejected trial may have overflowed: its error is not pulled back.
            new_gradient = pull(torch.where(accepted.unsqueeze(1), error, torch.zeros_like(error)))
        search.spend(index[accepted])
        pairs.add(accepted, trial - line.point, new_gradient - gradient)
        line.advance(accepted, trial, half_square(error), slope)
        gradient = torch.where(accepted.unsqueeze(1), new_gradient, gradient)


class _Pairs:
    r"""The latest steps :math:`s` of each sample, changes of the gradient :math:`y`, and :math:`\rho = 1 / s^\top y`.

    Shapes ``(n, memory, D)``, twice, and ``(n, memory)``, the newest last; :math:`\rho` is 0 where there is no pair, so
    that it changes nothing. ``gamma``, shape ``(n,)``, scales the initial inverse Hessian.
    """

    def __init__(self, x: Tensor, memory: int, gamma: Tensor) -> None:
        self.s, self.y = x.new_zeros(2, len(x), memory, x.shape[1])
        self.rho = x.new_zeros(len(x), memory)
        self.gamma = gamma

    @property
    def empty(self) -> Tensor:
        """Mask of the samples without a pair."""
        return self.rho[:, -1] == 0

    def keep(self, mask: Tensor) -> None:
        """Drop the samples outside ``mask``."""
        self.s, self.y, self.rho, self.gamma = self.s[mask], self.y[mask], self.rho[mask], self.gamma[mask]

    def forget(self, mask: Tensor) -> None:
        """Drop all pairs of the samples in ``mask``."""
        self.rho[mask] = 0

    def add(self, mask: Tensor, s: Tensor, y: Tensor) -> None:
        """Append a pair to the samples in ``mask``, unless the curvature along it is not clearly positive."""
        product = (s * y).sum(1)
        mask = mask & (product > 1e-8 * s.norm(dim=1) * y.norm(dim=1))
        if bool(mask.any()):
            self.s[mask] = torch.cat([self.s[mask, 1:], s[mask].unsqueeze(1)], 1)
            self.y[mask] = torch.cat([self.y[mask, 1:], y[mask].unsqueeze(1)], 1)
            self.rho[mask] = torch.cat([self.rho[mask, 1:], product[mask].reciprocal().unsqueeze(1)], 1)
            self.gamma = torch.where(mask, product / y.square().sum(1), self.gamma)

    def inverse_hessian(self, q: Tensor) -> Tensor:
        """Multiply by the approximate inverse Hessian: the two loops of Nocedal and Wright, algorithm 7.4."""
        alphas = []
        for s, y, rho in reversed(list(zip(self.s.unbind(1), self.y.unbind(1), self.rho.unbind(1), strict=True))):
            alpha = rho * (s * q).sum(1)
            q = q - alpha.unsqueeze(1) * y
            alphas.append(alpha)
        r = self.gamma.unsqueeze(1) * q
        for s, y, rho in zip(self.s.unbind(1), self.y.unbind(1), self.rho.unbind(1), strict=True):
            beta = rho * (y * r).sum(1)
            r = r + (alphas.pop() - beta).unsqueeze(1) * s
        return r
