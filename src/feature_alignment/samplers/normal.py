"""The standard normal distribution: the prior of every model that has one."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor

from .sampler import Sampler

__all__ = ["Normal"]


class Normal(Sampler):
    r""":math:`\mathcal N(0, I)`.

    Example:
        >>> Normal(3).draw(2).shape
        torch.Size([2, 3])
        >>> Normal(2).log_prob(torch.zeros(1, 2))  # -log(2 pi)
        tensor([-1.8379], dtype=torch.float64)
    """

    learns: ClassVar[bool] = False
    like: Tensor

    def __init__(self, latent: int, classes: int = 0) -> None:
        super().__init__(latent, classes)
        self.register_buffer("like", torch.empty(0), persistent=False)  # has the dtype and the device to draw in

    def fit(self, latents: Tensor, labels: Tensor | None = None) -> None:
        """Do nothing: the prior is fixed."""

    def draw(  # noqa: D102
        self,
        count: int,
        labels: Tensor | None = None,
        generator: torch.Generator | None = None,
        temperature: float = 1.0,
    ) -> Tensor:
        return temperature * torch.randn(count, self.latent, generator=generator).to(self.like)

    def log_prob(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:  # noqa: D102
        self.check_size(latents)
        return -0.5 * (latents.double().square().sum(1) + self.latent * math.log(2 * math.pi))
