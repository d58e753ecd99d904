"""What tells a split of images from others."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..data import Images

__all__ = ["fingerprint"]


def fingerprint(images: Images) -> str:
    """Return a description of a split that another set, order or decoding of images does not have.

    The pixels enter by 64 images evenly spread over the set, which may be larger than the memory.
    """
    import torch

    chosen = torch.linspace(0, len(images) - 1, min(64, len(images))).round().long()
    digest = hashlib.sha256(images.pixels[chosen].contiguous().numpy().tobytes())
    if images.labels is not None:
        digest.update(images.labels.contiguous().numpy().tobytes())
    shape = " x ".join(map(str, images.shape))
    classes = 0 if images.labels is None else len(images.classes)
    return f"{len(images):,} images of {shape} in {classes} classes, SHA-256 {digest.hexdigest()[:12]}"
