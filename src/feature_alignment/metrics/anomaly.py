"""Anomaly scores: how badly a model reconstructs an image, and where."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["Region", "error_maps", "worst_region"]


class Region(NamedTuple):
    """The square of each image where its error is largest.

    Attributes:
        top: its first row, int64, shape ``(N,)``.
        left: its first column, int64, shape ``(N,)``.
        share: of the image's error that is in it, shape ``(N,)``; 0 for an image without error,
            not a number for one whose error is none.
    """

    top: Tensor
    left: Tensor
    share: Tensor


def error_maps(images: Tensor, reconstructions: Tensor) -> Tensor:
    r"""Return the squared error of every pixel, summed over channels, shape ``(N, H, W)``.

    The anomaly score of an image, :math:`\lVert x - \hat x \rVert^2`, is the sum of its map.

    Args:
        images, reconstructions: in [0, 1], shape ``(N, C, H, W)``.

    Raises:
        ValueError: the shapes differ.

    Example:
        >>> error_maps(torch.zeros(1, 3, 2, 2), torch.full((1, 3, 2, 2), 0.5))
        tensor([[[0.7500, 0.7500],
                 [0.7500, 0.7500]]])
    """
    if images.shape != reconstructions.shape:
        raise ValueError(f"reconstructions: expected shape {tuple(images.shape)}, got {tuple(reconstructions.shape)}")
    return (images - reconstructions).square().sum(1)


def worst_region(maps: Tensor, side: int) -> Region:
    """Return the square of ``side`` pixels with the largest sum of errors; of equal ones the first by rows.

    Args:
        maps: of :func:`error_maps`, shape ``(N, H, W)``.
        side: from 1 to the smaller of ``H`` and ``W``.

    Raises:
        ValueError: a side out of range.

    Example:
        >>> maps = torch.zeros(1, 4, 4)
        >>> maps[0, 2:, 1:3] = 1
        >>> worst_region(maps, 2)
        Region(top=tensor([2]), left=tensor([1]), share=tensor([1.]))
    """
    if not 1 <= side <= min(maps.shape[1:]):
        raise ValueError(f"side: expected 1 to {min(maps.shape[1:])}, got {side}")
    sums = functional.avg_pool2d(maps[:, None], side, 1)[:, 0] * side**2
    most, place = sums.flatten(1).max(1)
    top, left = place // sums.shape[2], place % sums.shape[2]
    whole = maps.flatten(1).sum(1)
    return Region(top, left, torch.where(whole == 0, torch.zeros_like(whole), most / whole))
