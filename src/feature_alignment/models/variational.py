"""Shared by the variational models: the posterior of an image and the weight of its KL divergence."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from ..core.draws import draw, standard_normal
from .options import ModelOptions, at_least, one_of

__all__ = ["Beta", "Posterior", "VariationalOptions", "kl_weight"]

Beta = Literal["uniform"]


@dataclass(frozen=True)
class VariationalOptions(ModelOptions):
    """Options of a model with a prior.

    Args:
        beta: weight of the KL divergence: a number, or ``uniform`` for a draw from U(0, 1) per example and update.
        kl_warmup: number of updates over which this weight grows linearly from 0 to ``beta``; 0 for no warm-up.
        max_log_variance: bound on the log-variance of a posterior, where the prior has 0. Without one an image can have
            an infinite one, and the training ends.
    """

    beta: float | Beta = 1.0
    kl_warmup: int = 0
    max_log_variance: float = 20.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.beta, str):
            one_of("beta", self.beta, Beta)
        elif not 0 <= self.beta < math.inf:
            raise ValueError(f"beta: expected uniform or a number of at least 0, got {self.beta}")
        at_least(0, kl_warmup=self.kl_warmup, max_log_variance=self.max_log_variance)


class Posterior(NamedTuple):
    """Mean and log-variance of q(z|x), shape ``(N, latent)``, and class scores, shape ``(N, classes)``.

    Made by :meth:`bounded`.
    """

    mean: Tensor
    log_variance: Tensor
    scores: Tensor

    @classmethod
    def bounded(cls, mean: Tensor, log_variance: Tensor, scores: Tensor, largest: float) -> Posterior:
        """Return the posterior of a network's outputs, with log-variances of at most ``largest``.

        Those beyond it are differentiated as if they were within, or nothing would bring them back.
        """
        return cls(mean, log_variance - (log_variance - largest).clamp(min=0).detach(), scores)

    @property
    def deviation(self) -> Tensor:
        r""":math:`\sigma = \exp(\tfrac12 \log \sigma^2)`."""
        return (0.5 * self.log_variance).exp()

    def draw(self) -> Tensor:
        r"""Draw :math:`z = \mu + \epsilon \odot \sigma`, differentiable (the paper prints :math:`\sigma^2`)."""
        return self.mean + standard_normal(len(self.mean), self.mean.shape[1], self.mean) * self.deviation

    def detach(self) -> Posterior:
        """Return the posterior without its autograd graph."""
        return Posterior(*(part.detach() for part in self))


def kl_weight(divergence: Tensor, beta: float | Beta, warmup: int, updates_done: int) -> Tensor | float:
    r"""Return :math:`\beta`, the weight of each example's KL divergence.

    Args:
        divergence: of each example, shape ``(N,)``.
        beta: a number, or ``uniform`` for a draw from U(0, 1) per example (§3.3).
        warmup: number of updates over which the weight grows linearly from 0; 0 for no warm-up.
        updates_done: number of updates before this one.
    """
    weight = _uniform(divergence) if beta == "uniform" else float(beta)
    return weight * min(1.0, (updates_done + 1) / warmup) if warmup else weight


def _uniform(like: Tensor) -> Tensor:
    return draw(lambda count: torch.rand_like(like.new_empty(count)), len(like))
