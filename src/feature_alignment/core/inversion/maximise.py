r"""Feature visualisation: the input that excites chosen units most, among those that are as likely as images are."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from ..checks import check_finite, check_start
from ..pullback import Chain, any_batch, vjp
from ..structures import Network
from .outputs import Matched
from .problem import begin, checked, matched_output
from .variables import Variables, as_variables

__all__ = ["Maximum", "maximise"]


@dataclass(frozen=True)
class Maximum:
    r"""What :func:`maximise` found, for each of ``N`` starts.

    Attributes:
        input: the best input seen, shape ``(N, ...)``.
        value: the weighted mean of the units there, :math:`\sum_i w_i a_i / \sum_i w_i`, shape ``(N,)``.
        initial: that at the start, shape ``(N,)``.
        point: the variables of ``input``, shape ``(N, ...)``.
    """

    input: Tensor
    value: Tensor
    initial: Tensor
    point: Tensor


@torch.no_grad()
def maximise(
    network: Network,
    start: Tensor | None = None,
    max_evaluations: int = 200,
    *,
    units: Any = None,
    weights: Any = None,
    variables: str | Variables = "natural",
    radius: float = 1.0,
) -> Maximum:
    r"""Maximise the mean of chosen units over :math:`\varphi(u)`, :math:`\lVert u - u_0 \rVert \le \rho \sqrt D`.

    For variables of unit variance, ``natural`` or fitted ones, the sphere with :math:`\rho = 1` is where nearly all
    images are. The ascent is by projected gradients: each step is a share of the radius, which is halved where the mean
    falls. Of a linear network it finds the maximum, :math:`u = u_0 + \rho \sqrt D \, g / \lVert g \rVert`.

    Args:
        network: as for :func:`~feature_alignment.invert`.
        start: inputs, shape ``(N, ...)``, of the points :math:`u_0`; by default that of the variables.
        max_evaluations: budget per start, at least 2: a step costs two evaluations.
        units: whose mean is maximised, as for :func:`~feature_alignment.invert`; all by default.
        weights: of the tensors of an output, as there.
        variables: as there.
        radius: :math:`\rho`, greater than 0.

    Returns:
        A :class:`Maximum`.

    Raises:
        TypeError, ValueError: as for :func:`~feature_alignment.invert`.

    Example:
        >>> network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 5))
        >>> found = maximise(network, torch.full((1, 1, 8, 8), 0.5), units=3)
        >>> bool(found.value > found.initial)
        True
    """
    _check_options(max_evaluations, radius)
    if start is not None:
        check_start(start, len(start) if isinstance(start, Tensor) and start.ndim else 1)
        check_finite("start", start)
    space = as_variables(variables)
    u, inputs = begin(space, start, 1 if start is None else len(start))
    output = checked(network, inputs)
    matched = Matched(output, units, weights)
    found = matched_output(any_batch(network), matched)
    total = matched(pytree.tree_map(lambda part: None if part is None else torch.ones_like(part[:1]), output)).sum()
    composed = Chain([space.forward, lambda x: found(x).sum(1) / total])
    return _ascend(composed, space, u, radius * math.sqrt(math.prod(u.shape[1:])), max_evaluations)


def _check_options(max_evaluations: int, radius: float) -> None:
    if isinstance(max_evaluations, bool) or not isinstance(max_evaluations, int) or max_evaluations < 2:
        raise ValueError(f"max_evaluations: expected a whole number of at least 2, got {max_evaluations!r}")
    if not (math.isfinite(radius) and radius > 0):
        raise ValueError(f"radius: expected a finite number greater than 0, got {radius!r}")


def _ascend(network: Network, space: Variables, center: Tensor, radius: float, budget: int) -> Maximum:
    point, (value, pull_back) = center, vjp(network, center)
    gradient, initial = pull_back(torch.ones_like(value)), value
    step = torch.full_like(value, radius)
    for _ in range(budget // 2 - 1):
        trial = _projected(point + _per_sample(step, point) * _unit(gradient), center, radius)
        tried, pull_back = vjp(network, trial)
        slope = pull_back(torch.ones_like(tried))
        higher = tried > value  # False where it is not a number
        point = torch.where(_per_sample(higher, point), trial, point)
        gradient = torch.where(_per_sample(higher, point), slope, gradient)
        value = torch.where(higher, tried, value)
        step = torch.where(higher, (1.5 * step).clamp_max(4 * radius), step / 2)
    return Maximum(space.forward(point), value, initial, point)


def _projected(point: Tensor, center: Tensor, radius: float) -> Tensor:
    offset = point - center
    norm = _per_sample(offset.flatten(1).norm(dim=1), point)
    return center + offset * (radius / norm.clamp_min(radius))


def _unit(gradient: Tensor) -> Tensor:
    norm = gradient.flatten(1).norm(dim=1).clamp_min(torch.finfo(gradient.dtype).tiny)
    return gradient / _per_sample(norm, gradient)


def _per_sample(numbers: Tensor, like: Tensor) -> Tensor:
    return numbers.view(-1, *[1] * (like.ndim - 1))
