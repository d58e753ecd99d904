"""Images as one uint8 tensor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from torch import Tensor
from torch.utils.data import Dataset

from .splits import Split

__all__ = ["Images", "Pixels", "to_pixels"]

Pixels: TypeAlias = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Images(Dataset[Any]):
    """One split of a data set.

    Attributes:
        name: of the data set.
        split: ``train`` or ``test``.
        pixels: uint8, shape ``(N, C, H, W)``.
        labels: int64, shape ``(N,)``, or none.
        classes: their names.
        white: the values of white that images of more than 8 bits were scaled by, for those read later.
    """

    name: str
    split: Split
    pixels: Tensor
    labels: Tensor | None
    classes: tuple[str, ...]
    white: Mapping[str, float] = field(default_factory=dict)

    @property
    def shape(self) -> tuple[int, int, int]:
        """``(C, H, W)``."""
        channels, height, width = self.pixels.shape[1:]
        return channels, height, width

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> Tensor | tuple[Tensor, Tensor]:
        """Return the pixels of an image, and its label if there are any, for a ``DataLoader`` of one's own."""
        return self.pixels[index] if self.labels is None else (self.pixels[index], self.labels[index])

    def chosen(self, indices: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return a batch of images, and their labels, by index."""
        indices = indices.to(self.pixels.device)
        return self.pixels[indices], None if self.labels is None else self.labels[indices]

    def images(self, count: int | None = None) -> Tensor:
        """Return the first ``count`` images (all by default) as float32 in [0, 1]."""
        return self.pixels[:count].float() / 255


def to_pixels(images: Tensor) -> Pixels:
    """Turn float images in [0, 1], shape ``(..., C, H, W)``, into uint8 arrays with the channels last.

    Example:
        >>> to_pixels(torch.tensor([[[0.0, 0.5, 1.0]]])).squeeze().tolist()
        [0, 128, 255]
    """
    return (255 * images.clamp(0, 1)).round().byte().movedim(-3, -1).cpu().numpy()
