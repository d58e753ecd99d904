"""Backtracking line search, each sample along a direction and with a step length of its own."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["Backtracking"]

SUFFICIENT = 1e-4  # share of the decrease predicted by the slope that a step must reach (Armijo's rule)
SHORTEST = 1e-3  # of a full step: a direction without a decrease at this length is given up


class Backtracking:
    """Points that move along directions until a value falls (Nocedal and Wright, *Numerical Optimization*, §3.1).

    Args:
        point: shape ``(n, D)``.
        value: to be decreased, there: shape ``(n,)``.
        interpolate: whether a step that failed is shortened to the minimum of the parabola through both values and
            the slope, between a tenth and a half of it (§3.5); otherwise it is halved.
    """

    def __init__(self, point: Tensor, value: Tensor, *, interpolate: bool = False) -> None:
        self.point, self.value, self.interpolate = point, value, interpolate
        self.direction = torch.zeros_like(point)
        self.length = torch.zeros_like(value)  # 0 until a direction is set

    @property
    def finished(self) -> Tensor:
        """Mask of the samples that took their step, and need a new direction."""
        return self.length == 0

    @property
    def exhausted(self) -> Tensor:
        """Mask of the samples that found no decrease along their direction."""
        return (self.length > 0) & (self.length < SHORTEST)

    def follow(self, mask: Tensor, direction: Tensor) -> None:
        """Give the samples in ``mask`` a direction, at first to be followed for its whole length."""
        self.direction = torch.where(mask.unsqueeze(1), direction, self.direction)
        self.length = torch.where(mask, torch.ones_like(self.length), self.length)

    def trial(self) -> Tensor:
        """Return the points to evaluate next."""
        return self.point + self.length.unsqueeze(1) * self.direction

    def accepts(self, value: Tensor, slope: Tensor) -> Tensor:
        """Mask of the trial points whose ``value`` is low enough; ``slope``, its derivative, must be negative."""
        return (value <= self.value + SUFFICIENT * self.length * slope) & (slope < 0)

    def advance(self, accepted: Tensor, trial: Tensor, value: Tensor, slope: Tensor) -> None:
        """Move to the accepted trial points, and shorten the other steps."""
        shorter = self._interpolated(value, slope) if self.interpolate else self.length / 2
        self.point = torch.where(accepted.unsqueeze(1), trial, self.point)
        self.value = torch.where(accepted, value, self.value)
        self.length = torch.where(accepted, torch.zeros_like(self.length), shorter)

    def keep(self, mask: Tensor) -> None:
        """Forget the samples outside ``mask``."""
        self.point, self.value = self.point[mask], self.value[mask]
        self.direction, self.length = self.direction[mask], self.length[mask]

    def _interpolated(self, value: Tensor, slope: Tensor) -> Tensor:
        rise = value - self.value - self.length * slope  # not a number after an overflow: the shortest step then
        minimum = torch.where(rise > 0, -slope * self.length.square() / (2 * rise), 0.5 * self.length)
        return torch.minimum(torch.maximum(torch.nan_to_num(minimum), 0.1 * self.length), 0.5 * self.length)
