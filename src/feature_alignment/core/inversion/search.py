r"""What all solvers share: the budget, the best points, and the network's errors :math:`e(r) = E(r) - z`."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

from ..pullback import evaluation, vjp
from ..structures import Network, Structure, from_rows, rows, wide

__all__ = ["Pull", "Search", "half_square", "minimising_step", "restricted"]

#: From cotangents to gradients, both flattened: from shape ``(n, K)`` to ``(n, D)``.
Pull: TypeAlias = Callable[[Tensor], Tensor]

#: The longest step of a search among bounded inputs: root mean square of the change of logits, which in photographs are
#: of about unit variance.
LONGEST = 2.0


class Search:
    """The best point of every sample so far, and the evaluations spent. Points and errors are flattened, and in float32
    where the network is in half precision.

    A solver works on the samples at ``index``. All its tensors have these as their first dimension, and shrink with
    it when samples are solved or out of evaluations, so that only the others are evaluated.

    Args:
        network: from a batch of inputs to any structure of tensors.
        target: of the structure of its output, ``N`` samples of ``K`` numbers.
        start: shape ``(N, ...)``, ``D`` numbers a sample.
        tolerance: the relative residual at which a sample is solved.
        budget: the most evaluations of a sample.
        noise: the norm of the noise in the target: a sample is solved there, if that is above the tolerance.
        cost: evaluations of the network the user gave, for one of ``network``.
        logits: from a change of points to that of the logits of inputs, if these are bounded.
    """

    def __init__(
        self,
        network: Network,
        target: Structure,
        start: Tensor,
        tolerance: float,
        budget: int,
        *,
        noise: float = 0.0,
        cost: int = 1,
        logits: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        self.network, self.target, self.shape, self.dtype = network, wide(rows(target)), start.shape[1:], start.dtype
        self.budget, self.cost, self.logits = budget, cost, logits
        self.start, self.input = start, wide(start).flatten(1).clone()
        norm = self.target.norm(dim=1)
        self.scale = torch.where(norm > 0, norm, torch.ones_like(norm))
        self.tolerance = (noise / self.scale).clamp_min(tolerance)
        self.residual = torch.full_like(self.scale, math.inf)
        # The best points before the one that solved the sample, for the discrepancy principle.
        self.outside, self.outside_residual = self.input.clone(), self.residual.clone()
        self.evaluations = torch.zeros(len(start), dtype=torch.int64, device=start.device)

    def state(self) -> dict[str, Tensor]:
        """Return copies of all that a solver changes, for :meth:`restore`."""
        names = ("input", "residual", "outside", "outside_residual", "evaluations")
        return {name: getattr(self, name).clone() for name in names}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Go back to a state, as if the solver had not run."""
        vars(self).update(state)

    def active(self, index: Tensor, cost: int = 1) -> Tensor:
        """Mask of the samples that are unsolved and within budget, were they to cost so much more."""
        spent = self.evaluations[index] + cost * self.cost
        return (self.residual[index] > self.tolerance[index]) & (spent <= self.budget)

    def evaluate(self, index: Tensor, points: Tensor) -> tuple[Tensor, Pull]:
        """Evaluate the network, keep the points that are the best so far; return errors and pull-back."""
        output, pull_back = vjp(self.network, self.inputs(points))
        errors = wide(rows(output)) - self.target[index]
        self.spend(index)
        residual = errors.norm(dim=1) / self.scale[index]
        better = residual < self.residual[index]  # False where the residual is not a number
        moved = index[better]
        self.outside[moved], self.outside_residual[moved] = self.input[moved], self.residual[moved]
        self.residual[moved], self.input[moved] = residual[better], points[better]
        return errors, lambda cotangents: wide(pull_back(from_rows(cotangents, output)).flatten(1))

    def inputs(self, points: Tensor) -> Tensor:
        """Return points as the network takes them."""
        return points.view(-1, *self.shape).to(self.dtype)

    def bounded(self, step: Tensor) -> Tensor:
        """Shorten steps that would make bounded inputs black or white all over.

        That may be nearer to the target than grey, and from there nothing leads back: all slopes are 0.
        """
        if self.logits is None:
            return step
        change = wide(self.logits(self.inputs(step))).flatten(1).square().mean(1, keepdim=True).sqrt()
        return step * (LONGEST / change).clamp(max=1)

    def spend(self, index: Tensor, cost: int = 1) -> None:
        """Count evaluations, or products with the Jacobian or its transpose, for these samples."""
        self.evaluations[index] += cost * self.cost

    def residual_at(self, index: Tensor, points: Tensor) -> Tensor:
        """Return the relative residuals at points, which are not kept."""
        output = evaluation(self.network)(self.inputs(points))
        residual: Tensor = (wide(rows(output)) - self.target[index]).norm(dim=1) / self.scale[index]
        return residual


def restricted(pull: Pull, kept: Tensor) -> Pull:
    """Pull back the cotangents of the samples in a mask, through a batch that also held others."""
    places = kept.nonzero().flatten()

    def pull_some(cotangents: Tensor) -> Tensor:
        whole = cotangents.new_zeros(len(kept), *cotangents.shape[1:])
        return pull(whole.index_copy(0, places, cotangents))[places]

    return pull if bool(kept.all()) else pull_some


def half_square(error: Tensor) -> Tensor:
    r"""Return :math:`\tfrac12 \lVert e \rVert^2` of each sample."""
    return error.square().sum(1) / 2


def minimising_step(error: Tensor, gradient: Tensor) -> Tensor:
    r"""Return :math:`\lVert e \rVert^2 / \lVert J^\top e \rVert^2`, a step size for the gradient.

    It ends the linearised error where that lies in one singular direction.
    """
    tiny = torch.finfo(gradient.dtype).tiny
    return error.square().sum(1) / gradient.square().sum(1).clamp_min(tiny)
