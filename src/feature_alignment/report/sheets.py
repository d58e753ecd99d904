"""Pictures composed of images: a grid, and versions of the same images one below the other."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ..data import to_pixels
from .figure import DPI, Figure, finish
from .words import drawn

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["grid", "pairs"]

#: Pixels around a sheet and its words, and between two labels.
MARGIN, SPACE = 8, 4


def grid(
    images: Tensor,
    path: str | Path | None = None,
    *,
    title: str = "",
    rows: Sequence[str] = (),
    columns: Sequence[str] = (),
    gap: int = 2,
    least: int = 72,
) -> bytes:
    """Draw a labelled grid of images.

    Args:
        images: in [0, 1], shape ``(rows, columns, C, H, W)``.
        path: file to write, in the format of its extension; none for no file.
        title: of the picture.
        rows: one label per row, on its left.
        columns: one label per column, above it.
        gap: white pixels between images.
        least: height of an image on the screen, about, in pixels: small ones are enlarged by an integer factor.

    Returns:
        The content of the file; PNG if there is no path.
    """
    count_down, count_across, channels, height, width = images.shape
    sheet = _sheet(images.cpu(), gap)
    zoom = max(1, round(least / height))
    tall, wide = sheet.shape[0] * zoom, sheet.shape[1] * zoom
    figure = Figure(figsize=(wide / DPI, tall / DPI), dpi=DPI)
    axes = figure.add_axes((0, 0, 1, 1))
    # Enlarged by an integer factor, so that no resampling blurs the images.
    pixels = np.kron(to_pixels(sheet.movedim(-1, 0)), np.ones((zoom, zoom, 1), np.uint8))
    axes.imshow(pixels[..., 0] if channels == 1 else pixels, cmap="gray", vmin=0, vmax=255, interpolation="none")
    (title,), fonts = drawn([title])
    filled = textwrap.fill(title, max(12, wide // 8), break_long_words=False)
    axes.set_title(filled, fontsize=11, fontfamily=fonts)
    for set_ticks, labels, count, size in (
        (axes.set_yticks, rows, count_down, height),
        (axes.set_xticks, columns, count_across, width),
    ):
        names, fonts = drawn(labels)
        set_ticks(_middles(count, size, gap, zoom) if labels else [], names, fontfamily=fonts)
    axes.xaxis.tick_top()
    axes.tick_params(length=0, labelsize=9)
    axes.spines[:].set_visible(False)
    _slant(axes, (width + gap) * zoom)
    _surround(figure, axes, wide, tall)
    return finish(figure, path)


def _slant(axes: Axes, pitch: int) -> None:
    """Slant the labels of columns that are wider than a column, ``pitch`` pixels."""
    labels = axes.get_xticklabels()
    if any(label.get_window_extent().width > pitch - SPACE for label in labels):
        for label in labels:
            label.set(rotation=30, ha="left", rotation_mode="anchor")


def _surround(figure: Figure, axes: Axes, wide: int, tall: int) -> None:
    """Enlarge the figure by what its words need; the images keep exactly ``wide`` times ``tall`` pixels."""
    box = axes.get_tightbbox()
    assert box is not None  # the axes are visible
    left, low = (math.ceil(MARGIN - min(0, edge)) for edge in (box.x0, box.y0))
    across = left + wide + math.ceil(max(0, box.x1 - wide) + MARGIN)
    up = low + tall + math.ceil(max(0, box.y1 - tall) + MARGIN)
    figure.set_size_inches(across / DPI, up / DPI)
    axes.set_position((left / across, low / up, wide / across, tall / up))


def _sheet(images: Tensor, gap: int) -> Tensor:
    """Tile the images on white, shape ``(height, width, C)``."""
    down, across, channels, height, width = images.shape
    padded = torch.ones(down, across, channels, height + gap, width + gap)
    padded[..., :height, :width] = images
    sheet = padded.permute(0, 3, 1, 4, 2).reshape(down * (height + gap), across * (width + gap), channels)
    return sheet[: sheet.shape[0] - gap, : sheet.shape[1] - gap]


def _middles(count: int, size: int, gap: int, zoom: int) -> list[float]:
    return [(place * (size + gap) + size / 2) * zoom for place in range(count)]


def pairs(rows: Mapping[str, Tensor], path: str | Path | None = None, *, title: str = "", columns: int = 10) -> bytes:
    """Draw versions of the same images one below the other, in blocks of ``columns`` images.

    Args:
        rows: maps the label of each version to its images, shape ``(N, C, H, W)``, with the same ``N``.
        path, title: as for :func:`grid`.
        columns: images per row.

    Returns:
        As :func:`grid`.
    """
    versions = torch.stack([each.cpu() for each in rows.values()])  # (versions, N, C, H, W)
    count = versions.shape[1]
    columns = min(columns, count)
    missing = -count % columns
    versions = torch.cat([versions, torch.ones(len(versions), missing, *versions.shape[2:])], 1)
    blocks = versions.unflatten(1, (-1, columns)).transpose(0, 1).flatten(0, 1)
    return grid(blocks, path, title=title, rows=list(rows) * (len(blocks) // len(rows)))
