"""Pulling back unit vectors instead of residuals if the network has fewer outputs than there are samples."""

from __future__ import annotations

from torch import Tensor

from . import enabled

__all__ = ["units_are_fewer"]


def units_are_fewer(errors: Tensor, points: int) -> bool:
    """Whether to pull back unit vectors instead of residuals, shape ``(N, K)``, through one shared point."""
    return enabled() and points == 1 and errors.shape[1] < errors.shape[0]
