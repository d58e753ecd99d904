"""The base class of the samplers."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

__all__ = ["Sampler"]


class Sampler(nn.Module, ABC):
    """A distribution of latents. Its fitted parameters are buffers, which are saved with the model that owns it.

    Args:
        latent: size of the latent vector.
    """

    #: Whether :meth:`fit` has an effect.
    learns = True

    def __init__(self, latent: int) -> None:
        super().__init__()
        self.latent = latent

    @abstractmethod
    def fit(self, latents: Tensor, labels: Tensor | None = None) -> None:
        """Fit the distribution to latents of training images.

        Args:
            latents: shape ``(N, latent)``, at least two.
            labels: the class of each, int64, shape ``(N,)``, or none.
        """

    @abstractmethod
    def draw(self, count: int, labels: Tensor | None = None, generator: torch.Generator | None = None) -> Tensor:
        """Draw latents, shape ``(count, latent)``, on the device and in the dtype of the sampler's buffers.

        Args:
            count: number of latents.
            labels: the class of each, int64, shape ``(count,)``, for a class-conditional sampler.
            generator: source of randomness, on the CPU; by default PyTorch's global one.
        """
