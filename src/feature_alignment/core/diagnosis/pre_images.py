r"""The generalised inverse :math:`g'` of a layer, by :func:`~feature_alignment.invert`, and one step towards it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..inversion import invert
from ..inversion.gauss_newton import gauss_newton
from ..inversion.problem import begin, pose
from ..inversion.search import Search
from ..inversion.variables import Variables, as_variables
from ..pullback import NotDifferentiableError, evaluation
from ..structures import Network, Structure, rows

__all__ = ["PreImages", "origin", "other_mean", "pre_images"]

#: Of the least-squares problem of one Gauss-Newton step, by CGLS.
ITERATIONS = 30


@dataclass(frozen=True)
class PreImages:
    r"""What :func:`pre_images` returns, for each of ``N`` images :math:`x` with :math:`x' = g'(g(x))`.

    Attributes:
        input: :math:`x'`, shape ``(N, ...)``.
        one_step: the input after one Gauss-Newton step, shape ``(N, ...)``; NaN for a network without products with its
            Jacobian.
        residual: of :math:`g g' g = g`: :math:`\lVert g(x') - g(x) \rVert / \lVert g(x) \rVert`, shape ``(N,)``.
        repetition: of :math:`g' g g' = g'`: :math:`\lVert g'(g(x')) - x' \rVert / \lVert x' - x_0 \rVert`, shape
            ``(N,)``.
        converged: whether the residual is at most the tolerance, shape ``(N,)``.
        evaluations: of the network, by all three searches, int64, shape ``(N,)``.
    """

    input: Tensor
    one_step: Tensor
    residual: Tensor
    repetition: Tensor
    converged: Tensor
    evaluations: Tensor


@torch.no_grad()
def pre_images(
    network: Network,
    images: Tensor,
    start: Tensor | None,
    variables: str | Variables,
    tol: float = 1e-2,
    max_evaluations: int = 100,
) -> PreImages:
    r"""Search inputs with the network's outputs for ``images``, and from their outputs once more.

    Args:
        network: :math:`g`, as for :func:`~feature_alignment.invert`.
        images: :math:`x`, shape ``(N, ...)``.
        start: :math:`x_0`, shape ``(1, ...)``, where all searches begin; by default that of the variables.
        variables, tol, max_evaluations: as for :func:`~feature_alignment.invert`.
    """
    output = evaluation(network)
    target = output(images)
    found = invert(network, target, start, tol, max_evaluations, variables=variables)
    again = invert(network, output(found.input), start, tol, max_evaluations, variables=variables)
    step, spent = _one_step(network, target, start, variables, tol)
    moved = _norms(found.input - origin(variables, start)).clamp_min(torch.finfo(images.dtype).tiny)
    return PreImages(
        found.input,
        step,
        found.residual,
        _norms(again.input - found.input) / moved,
        found.converged,
        found.evaluations + again.evaluations + spent,
    )


def _one_step(
    network: Network, target: Structure, start: Tensor | None, variables: str | Variables, tol: float
) -> tuple[Tensor, Tensor]:
    """Return the input after one Gauss-Newton step, shortened where it would raise the error, and its evaluations."""
    space = as_variables(variables)
    problem = pose(network, space, target, begin(space, start, len(rows(target))))
    search = Search(problem.network, problem.target, problem.start, tol, budget=10 * ITERATIONS)
    index = torch.arange(len(problem.start), device=problem.start.device)
    try:
        gauss_newton(search, index, steps=1, reduction=tol, most=ITERATIONS)
    except NotDifferentiableError:  # not by J v, which a step needs; the searches went by its transpose alone
        search.input.fill_(math.nan)
    return space.forward(search.input.view(problem.start.shape)), search.evaluations


def origin(variables: str | Variables, start: Tensor | None) -> Tensor:
    """Return the input where searches begin, shape ``(1, ...)``."""
    return begin(as_variables(variables), start, 1)[1]


def other_mean(images: Tensor, grey: Tensor) -> Tensor:
    """Return for every image the mean of the others, or ``grey`` if there are none.

    Example:
        >>> other_mean(torch.tensor([[1.0], [2.0], [6.0]]), torch.tensor([[0.5]])).flatten()
        tensor([4.0000, 3.5000, 1.5000])
    """
    count = len(images)
    return (images.sum(0, keepdim=True) - images) / (count - 1) if count > 1 else grey.expand_as(images)


def _norms(points: Tensor) -> Tensor:
    norms: Tensor = points.flatten(1).norm(dim=1)
    return norms
