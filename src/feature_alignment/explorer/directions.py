r"""The directions along which a model's latents vary, from what is saved with the model."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..models import Model
from ..samplers import Gaussian

__all__ = ["Directions", "directions_of"]


@dataclass(frozen=True)
class Directions:
    r"""A basis of the latent space: :math:`z = m + \sum_k c_k s_k v_k`.

    Attributes:
        mean: :math:`m`, shape ``(latent,)``.
        vectors: :math:`v_k`, orthonormal rows, shape ``(K, latent)``.
        deviations: :math:`s_k`, the standard deviation along each, shape ``(K,)``.
        source: what they are, as a sentence for the user.
    """

    mean: Tensor
    vectors: Tensor
    deviations: Tensor
    source: str

    def __len__(self) -> int:
        return len(self.vectors)

    def coordinates(self, latent: Tensor) -> Tensor:
        r"""Return :math:`c_k = v_k^\top (z - m) / s_k` for latents of shape ``(N, latent)``, shape ``(N, K)``."""
        return (latent - self.mean) @ self.vectors.T / self.deviations

    def move(self, latent: Tensor, change: Tensor) -> Tensor:
        r"""Return :math:`z + \sum_k \Delta c_k s_k v_k` for latents ``(N, latent)`` and changes ``(N, K)``."""
        return latent + (change * self.deviations) @ self.vectors


def directions_of(model: Model, most: int) -> Directions:
    r"""Return at most so many directions, that of the largest standard deviation first.

    They are the eigenvectors of the covariance of the training images' latents, which the fitted Gaussian sampler
    holds as its symmetric root. Where no such sampler was saved they are the axes of the latent space.

    Args:
        model: any model.
        most: largest number of directions.

    Example:
        >>> from feature_alignment.models import VAE
        >>> model = VAE((1, 8, 8), latent=3, channels=[2], width=8)
        >>> directions_of(model, 2).vectors
        tensor([[1., 0., 0.],
                [0., 1., 0.]])
    """
    known = dict(model.samplers.items()).get("gaussian")
    if not isinstance(known, Gaussian):
        count = min(most, model.latent)
        axes = torch.eye(model.latent, device=model.device, dtype=model.dtype)[:count]
        source = "The axes of the latent space: no covariance of the latents was saved with this model."
        return Directions(torch.zeros_like(axes[0]), axes, torch.ones_like(axes[:, 0]), source)
    values, vectors = torch.linalg.eigh(known.root.double())
    order = values.argsort(descending=True)[:most]
    order = order[values[order] > 1e-6 * values.max()]  # along the others nothing varies
    source = "Principal directions of the training images' latents, in standard deviations from their mean."
    mean, rows, deviations = (
        each.to(model.device, model.dtype) for each in (known.mean, vectors.T[order], values[order])
    )
    return Directions(mean, rows, deviations, source)
