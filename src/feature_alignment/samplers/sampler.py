"""What every sampler has to do."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

__all__ = ["Sampler"]


class Sampler(nn.Module, ABC):
    """A distribution of latents. What it has learned is in its buffers, and is saved with the model that owns it.

    Args:
        latent: numbers in a latent.
    """

    #: Whether :meth:`fit` changes anything.
    learns = True

    def __init__(self, latent: int) -> None:
        super().__init__()
        self.latent = latent

    @abstractmethod
    def fit(self, latents: Tensor, labels: Tensor | None = None) -> None:
        """Take the distribution from latents of training images.

        Args:
            latents: shape ``(N, latent)``, two or more.
            labels: the class of each, int64, shape ``(N,)``, or none.
        """

    @abstractmethod
    def draw(self, count: int, labels: Tensor | None = None, generator: torch.Generator | None = None) -> Tensor:
        """Draw latents, shape ``(count, latent)``, on the device and in the dtype of the sampler's buffers.

        Args:
            count: how many.
            labels: the class of each, int64, shape ``(count,)``, for a sampler that knows classes.
            generator: source of randomness, on the CPU; torch's default if none.
        """
