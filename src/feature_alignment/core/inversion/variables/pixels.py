"""The inputs themselves, and inputs kept between 0 and 1."""

from __future__ import annotations

from torch import Tensor

from .base import Variables

__all__ = ["Bounded", "Pixels", "logit"]

#: Pixels of a start are moved this far into (0, 1): the logits of 0 and 1 are infinite.
MARGIN = 0.01


class Pixels(Variables):
    """The inputs themselves, :math:`r = u`, of any shape and range."""

    deviation = 0.25

    def forward(self, u: Tensor) -> Tensor:
        """Return ``u``."""
        return u

    def inverse(self, r: Tensor) -> Tensor:
        """Return ``r``."""
        return r


class Bounded(Variables):
    r"""Inputs in (0, 1): :math:`r = 1 / (1 + e^{-u})`, of any shape.

    Example:
        >>> import torch
        >>> Bounded().forward(torch.zeros(1, 3))
        tensor([[0.5000, 0.5000, 0.5000]])
    """

    squash = True

    def forward(self, u: Tensor) -> Tensor:
        """Return inputs in (0, 1)."""
        return u.sigmoid()

    def logits(self, u: Tensor) -> Tensor:
        """Return ``u``."""
        return u

    def inverse(self, r: Tensor) -> Tensor:
        """Return the logits of ``r``, clamped to [0.01, 0.99]; ValueError outside [0, 1]."""
        return logit(r)


def logit(r: Tensor) -> Tensor:
    """Return the logits of inputs in [0, 1], clamped to [0.01, 0.99]; ValueError if one is outside."""
    if bool((r < 0).any()) or bool((r > 1).any()):
        raise ValueError(
            f"start: expected values in [0, 1] for these variables, got {float(r.min()):.3g} to {float(r.max()):.3g}; "
            "the normalisation of pixels belongs to the network"
        )
    return r.clamp(MARGIN, 1 - MARGIN).logit()
