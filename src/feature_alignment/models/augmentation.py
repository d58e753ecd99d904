"""Differentiable augmentation of the images that a discriminator scores.

Zhao et al., *Differentiable augmentation for data-efficient GAN training*, 2020 (arXiv 2006.10738): real and generated
images are transformed alike in the updates of both networks, so that the discriminator cannot learn a small training
set by heart, and generated images do not come out transformed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..core.draws import draw

__all__ = ["AUGMENTATIONS", "augment"]


def translation(images: Tensor, ratio: float = 0.125) -> Tensor:
    """Shift each image by whole pixels, up to ``ratio`` of its side in each direction; what enters is 0."""
    down, across = (_shifts(len(images), side, ratio, images) for side in images.shape[2:])
    return down.unsqueeze(1) @ images @ across.unsqueeze(1).mT


def cutout(images: Tensor, ratio: float = 0.5) -> Tensor:
    """Set to 0 a rectangle of ``ratio`` of each side, at a random place of each image; it may reach beyond the edge."""
    rows, columns = (_inside(len(images), side, ratio, images) for side in images.shape[2:])
    return images * ~(rows[:, None, :, None] & columns[:, None, None, :])


#: Augmentations by name, each from images ``(N, C, H, W)`` to images, differentiable.
AUGMENTATIONS: dict[str, Callable[[Tensor], Tensor]] = {"translation": translation, "cutout": cutout}


def augment(images: Tensor, names: Sequence[str]) -> Tensor:
    """Apply augmentations, one after the other, drawn afresh for each image from PyTorch's global generator.

    Args:
        images: shape ``(N, C, H, W)``; the result is differentiable with respect to them.
        names: in :data:`AUGMENTATIONS`; none returns the images themselves.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> images = torch.ones(2, 1, 8, 8)
        >>> augment(images, ["cutout"]).mean((1, 2, 3)).tolist()
        [0.875, 0.875]
    """
    for name in names:
        images = AUGMENTATIONS[name](images)
    return images


def _shifts(count: int, side: int, ratio: float, like: Tensor) -> Tensor:
    """Return matrices that shift a vector of ``side`` numbers, each by another random number of places."""
    most, place = round(ratio * side), torch.arange(side, device=like.device)
    shift = draw(lambda n: torch.randint(-most, most + 1, (n, 1, 1), device=like.device), count)
    return (place[:, None] + shift == place).to(like.dtype)


def _inside(count: int, side: int, ratio: float, like: Tensor) -> Tensor:
    """Return the mask, shape ``(count, side)``, of a random interval of ``ratio`` of the side."""
    length, place = round(ratio * side), torch.arange(side, device=like.device)
    middle = draw(lambda n: torch.randint(0, side + (1 - length % 2), (n, 1), device=like.device), count)
    return (place >= middle - length // 2) & (place < middle - length // 2 + length)
