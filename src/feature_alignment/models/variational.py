"""What the variational models share: the posterior of an image and the weight of its KL divergence."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from .base import one_of

__all__ = ["Beta", "Posterior", "check_beta", "kl_weight"]

Beta = Literal["uniform"]


class Posterior(NamedTuple):
    """What the encoder says of an image: mean and log-variance, ``(N, latent)``, class scores ``(N, classes)``."""

    mean: Tensor
    log_variance: Tensor
    scores: Tensor

    @property
    def deviation(self) -> Tensor:
        r""":math:`\sigma = \exp(\tfrac12 \log \sigma^2)`."""
        return (0.5 * self.log_variance).exp()

    def draw(self) -> Tensor:
        r"""Draw :math:`z = \mu + \epsilon \odot \sigma`, differentiable (the paper prints :math:`\sigma^2`)."""
        return self.mean + torch.randn_like(self.mean) * self.deviation


def check_beta(beta: float | Beta) -> None:
    """Raise a ValueError unless ``beta`` is one that :func:`kl_weight` takes."""
    if isinstance(beta, str):
        one_of("beta", beta, Beta)
    elif beta < 0:
        raise ValueError(f"beta: expected uniform or a number of at least 0, got {beta}")


def kl_weight(divergence: Tensor, beta: float | Beta, warmup: int, steps_done: int) -> Tensor | float:
    r"""Return :math:`\beta`, the weight of each example's KL divergence.

    Args:
        divergence: of each example, shape ``(N,)``.
        beta: a number, or ``uniform`` for a draw from U(0, 1) per example (§3.3).
        warmup: number of steps over which the weight grows linearly from 0; 0 for none.
        steps_done: training steps taken so far.
    """
    weight = torch.rand_like(divergence) if beta == "uniform" else float(beta)
    return weight * min(1.0, (steps_done + 1) / warmup) if warmup else weight
