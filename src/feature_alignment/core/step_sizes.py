r"""The step sizes :math:`\tau_t` of equation 2, given by a rule that is evaluated before every step.

To add a rule, write a class with a method ``size`` and list it by name in :data:`STEP_RULES`; copy :class:`Stable`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from numbers import Real
from typing import Literal, Protocol, TypeAlias

import torch
from torch import Tensor

from .linearization import stable_step_size
from .structures import Network, wide

__all__ = ["STEP_RULES", "PerStep", "Stable", "StepRule", "StepSize", "limited", "per_step", "step_rule"]

StepSize: TypeAlias = float | Sequence[float] | Tensor | Literal["auto"]


class StepRule(Protocol):
    """Chooses the step sizes of one run of :func:`~feature_alignment.align`."""

    def size(self, network: Network, iterate: Tensor, step: int) -> float | Tensor:
        """Return the size of a step, from 1 on, that starts at ``iterate``: a number, or a tensor to multiply by."""
        ...


class PerStep:
    """Sizes given in advance, one per step: numbers, or 0-dimensional tensors that may be learned."""

    def __init__(self, sizes: Sequence[float | Tensor]) -> None:
        self.sizes = sizes

    def size(self, network: Network, iterate: Tensor, step: int) -> float | Tensor:
        """Return the size given for ``step``."""
        return self.sizes[step - 1]


class Stable:
    r"""Sizes for which the linearised flow cannot diverge: :math:`1 / \sigma^2`, for every step and sample.

    :math:`\sigma` is the largest singular value of the Jacobian, by power iteration; each continues from the last.
    """

    def __init__(self) -> None:
        self.direction: Tensor | None = None

    def size(self, network: Network, iterate: Tensor, step: int) -> Tensor:
        r"""Return :math:`1 / \sigma^2` at ``iterate``, shape ``(N, 1, ...)``, without a graph."""
        size, self.direction = stable_step_size(network, iterate, self.direction)
        return size


#: Rules by name, for ``align(..., step_size=NAME)``.
STEP_RULES: dict[str, Callable[[], StepRule]] = {"auto": Stable}


def step_rule(step_size: StepSize, steps: int) -> StepRule:
    """Return the rule for the argument ``step_size`` of :func:`~feature_alignment.align`.

    Raises:
        ValueError: ``steps`` below 0, a ``step_size`` of an unknown name, not positive, or not one per step.
    """
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 0:
        raise ValueError(f"steps: expected a whole number of at least 0, got {steps!r}")
    if isinstance(step_size, str):
        if step_size not in STEP_RULES:
            names = " or ".join(STEP_RULES)
            raise ValueError(f"step_size: expected numbers greater than 0 or {names}, got {step_size!r}")
        return STEP_RULES[step_size]()
    return PerStep(per_step("step_size", step_size, steps))


def per_step(name: str, given: float | Sequence[float] | Tensor | str, steps: int) -> Sequence[float | Tensor]:
    """Expand one value for all steps, or check one per step; raise a ValueError that begins with ``name``."""
    if isinstance(given, str):
        raise ValueError(f"{name}: expected numbers greater than 0, got {given!r}")
    return _of_tensor(name, given, steps) if isinstance(given, Tensor) else _of_numbers(name, given, steps)


def check_positive(name: str, given: object) -> None:
    """Raise a ValueError unless the values of a tensor, which nothing else reads, are finite and greater than 0."""
    if isinstance(given, Tensor) and not bool((given.isfinite() & (given > 0)).all()):
        raise ValueError(f"{name}: expected finite numbers greater than 0, got {given.tolist()}")


def limited(size: float | Tensor, gradient: Tensor, max_step: float | Tensor) -> Tensor:
    r"""Return step sizes that bound the norm of steps: :math:`\tau \min(1, \rho / \lVert \tau g \rVert)`.

    Args:
        size: :math:`\tau`.
        gradient: :math:`g`, shape ``(N, ...)``.
        max_step: :math:`\rho`, a number or a 0-dimensional tensor.

    Returns:
        Shape ``(N, 1, ...)``.
    """
    square = wide(size * gradient).flatten(1).square().sum(1).view(-1, *[1] * (gradient.ndim - 1))
    # Where a gradient is 0, as under a saturated squashing, so are the derivatives of its norm, not infinite.
    moves = square > 0
    norm = torch.where(moves, torch.where(moves, square, 1).sqrt(), 0)
    return size * (max_step / norm.clamp(min=max_step)).to(gradient.dtype)


def _of_tensor(name: str, given: Tensor, steps: int) -> Sequence[Tensor]:
    if given.ndim == 0:
        return [given] * steps
    if given.shape == (steps,):
        return given.unbind()
    raise ValueError(
        f"{name}: expected a 0-dimensional tensor or one of shape ({steps},), one value per step, "
        f"got shape {tuple(given.shape)}"
    )


def _of_numbers(name: str, given: float | Sequence[float], steps: int) -> list[float]:
    if not isinstance(given, Real | Iterable):
        raise TypeError(f"{name}: expected a number, or one per step, got {type(given).__name__}")
    values = [float(given)] * steps if isinstance(given, Real) else list(given)
    if len(values) != steps:
        raise ValueError(f"{name}: expected {steps} values, one per step, got {len(values)}")
    for value in values:
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"{name}: expected finite numbers greater than 0, got {value!r}")
    return [float(value) for value in values]
