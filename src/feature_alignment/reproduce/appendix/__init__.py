"""The numerical study of Appendix A: its three claims, one file each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from . import clamp, features, weights
from .drawing import draw
from .numbers import finite

__all__ = ["appendix_a"]

#: Maximum number of updates in the study of the clamp.
CLAMP_STEPS = 200


def appendix_a(directory: Path, images: Tensor, seeds: Sequence[int], steps: int) -> dict[str, Any]:
    """Measure the three claims of Appendix A and draw them.

    Args:
        directory: for ``appendix-a-features.png``, ``appendix-a-weights.png`` and ``appendix-a-clamp.png``.
        images: training images in [0, 1], shape ``(N, C, H, W)``.
        seeds: of starts, matrices, initial weights and batches, one run each.
        steps: updates of the study of the weights; that of the clamp takes at most :data:`CLAMP_STEPS`.

    Returns:
        ``features``, ``weights`` and ``clamp``, each with ``claim``, the paper's claim, ``holds``, the measured
        result in words, and the numbers. It can be written as JSON: numbers that are not finite are None.

    Raises:
        ValueError: no images, seeds or steps.
    """
    if images.ndim != 4 or not images.numel():
        raise ValueError(f"images: expected shape (N, C, H, W), got {tuple(images.shape)}")
    if not seeds:
        raise ValueError("seeds: expected at least one")
    if steps < 1:
        raise ValueError(f"steps: expected at least 1, got {steps}")
    directory.mkdir(parents=True, exist_ok=True)
    found: dict[str, Any] = finite(
        {
            "features": features.features(seeds),
            "weights": weights.weights(images, seeds, steps),
            "clamp": clamp.clamp(images, seeds, min(steps, CLAMP_STEPS)),
        }
    )
    draw(found, directory)
    return found
