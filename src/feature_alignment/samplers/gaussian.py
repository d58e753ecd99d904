"""A Gaussian with the mean and the covariance of the training images' latents."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .sampler import Sampler

__all__ = ["FLOOR", "Gaussian"]

#: Of the largest standard deviation, the least that a density assumes in any direction: where latents span less than
#: the space, there is no density otherwise.
FLOOR = 1e-3


class Gaussian(Sampler):
    r""":math:`\mathcal N(m, C)`, fitted to all latents whatever their class; N(0, I) until fitted.

    Draws are :math:`m + L \epsilon` with :math:`\epsilon \sim \mathcal N(0, I)` and the symmetric root
    :math:`L = C^{1/2}`, which exists for singular covariances too.

    Example:
        >>> sampler = Gaussian(3)
        >>> sampler.fit(torch.randn(100, 3) + 5)
        >>> sampler.draw(1000).mean().round()
        tensor(5.)
    """

    mean: Tensor
    root: Tensor

    def __init__(self, latent: int, classes: int = 0) -> None:
        super().__init__(latent, classes)
        self.register_buffer("mean", torch.zeros(latent))
        self.register_buffer("root", torch.eye(latent))

    @torch.no_grad()
    def fit(self, latents: Tensor, labels: Tensor | None = None) -> None:
        """Estimate mean and covariance in float64; raise a ValueError if there are fewer than two latents."""
        self.check(latents)
        double = latents.double()
        values, vectors = torch.linalg.eigh(double.T.cov().reshape(self.latent, self.latent))
        self.mean.copy_(double.mean(0))
        self.root.copy_(vectors * values.clamp_min(0).sqrt() @ vectors.T)

    def draw(  # noqa: D102
        self,
        count: int,
        labels: Tensor | None = None,
        generator: torch.Generator | None = None,
        temperature: float = 1.0,
    ) -> Tensor:
        return self.colour((temperature * torch.randn(count, self.latent, generator=generator)).to(self.mean))

    def log_prob(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:  # noqa: D102
        self.check_size(latents)
        white, log_determinant = self.whiten(latents)
        return -0.5 * (white.square().sum(1) + self.latent * math.log(2 * math.pi)) - log_determinant

    def colour(self, white: Tensor) -> Tensor:
        r"""Return :math:`m + L \epsilon` for each row :math:`\epsilon` of ``white``, shape ``(N, latent)``."""
        return self.mean + white @ self.root

    def whiten(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        r"""Return :math:`L^{-1} (z - m)` of each latent z and :math:`\log \det L`, in float64."""
        values, vectors = torch.linalg.eigh(self.root.double())
        values = values.clamp_min(max(FLOOR * float(values.max()), torch.finfo(torch.float32).tiny))
        return (latents.to(self.mean).double() - self.mean.double()) @ (
            vectors / values
        ) @ vectors.T, values.log().sum()
