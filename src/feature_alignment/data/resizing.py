"""Decoded sets at another size or in other colours."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from ..progress import progress
from .cache import Decoded, Meta, memory_map, save_labels

__all__ = ["fit"]

#: Images converted at a time, since a set may be larger than the memory.
CHUNK = 256


def fit(directory: Path, found: Decoded, shape: tuple[int, ...]) -> Meta:
    """Convert a set of square images to ``shape``, ``(C, H, W)``, and write it into ``directory``."""
    fitted = memory_map(directory, (len(found.pixels), *shape))
    for start in progress(range(0, len(fitted), CHUNK), "resizing"):
        chunk = _resized(_coloured(found.pixels[start : start + CHUNK], shape[0]), shape[1])
        fitted[start : start + CHUNK] = chunk.numpy()
    if found.labels is not None:
        save_labels(directory, found.labels.numpy())
    return {"count": len(fitted), "classes": list(found.classes), "findings": found.findings.as_json()}


def _coloured(pixels: Tensor, channels: int) -> Tensor:
    if channels == pixels.shape[1]:
        return pixels
    if channels == 3:
        return pixels.expand(-1, 3, -1, -1)
    weights = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)  # ITU-R 601 luma, as PIL's
    return (pixels * weights).sum(1, keepdim=True).round().byte()


def _resized(pixels: Tensor, image_size: int) -> Tensor:
    if pixels.shape[2:] == (image_size, image_size):
        return pixels
    resized = nn.functional.interpolate(pixels.float(), (image_size, image_size), mode="bicubic", antialias=True)
    return resized.round().clamp(0, 255).byte()
