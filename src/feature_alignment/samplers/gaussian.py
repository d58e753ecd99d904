"""A Gaussian with the mean and the covariance of the training images' latents."""

from __future__ import annotations

import torch
from torch import Tensor

from .sampler import Sampler

__all__ = ["Gaussian"]


class Gaussian(Sampler):
    r""":math:`\mathcal N(m, C)`, for models whose loss does not prescribe a distribution; N(0, I) until fitted.

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

    def __init__(self, latent: int) -> None:
        super().__init__(latent)
        self.register_buffer("mean", torch.zeros(latent))
        self.register_buffer("root", torch.eye(latent))

    @torch.no_grad()
    def fit(self, latents: Tensor, labels: Tensor | None = None) -> None:
        """Estimate mean and covariance in float64; raise a ValueError if there are fewer than two latents."""
        if len(latents) < 2:
            raise ValueError(f"latents: expected two or more to estimate a covariance, got {len(latents)}")
        double = latents.double()
        values, vectors = torch.linalg.eigh(double.T.cov().reshape(self.latent, self.latent))
        self.mean.copy_(double.mean(0))
        self.root.copy_(vectors * values.clamp_min(0).sqrt() @ vectors.T)

    def draw(self, count: int, labels: Tensor | None = None, generator: torch.Generator | None = None) -> Tensor:  # noqa: D102
        noise = torch.randn(count, self.latent, generator=generator).to(self.mean)
        return self.mean + noise @ self.root
