"""Every picture: grids of images with labels, and curves of the losses."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from .data import to_pixels

__all__ = ["curves", "grid", "pairs", "save_image"]


def save_image(image: Tensor, path: str | Path) -> None:
    """Write one image in [0, 1], shape ``(C, H, W)``, pixel for pixel."""
    pixels = to_pixels(image)
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(path)


def grid(
    images: Tensor,
    path: str | Path,
    *,
    title: str = "",
    rows: Sequence[str] = (),
    columns: Sequence[str] = (),
    gap: int = 2,
) -> None:
    """Write a labelled grid of images.

    Args:
        images: in [0, 1], shape ``(rows, columns, C, H, W)``.
        path: of the PNG.
        title: above it.
        rows: a label a row, left of it.
        columns: a label a column, above it.
        gap: white pixels between images.
    """
    count_down, count_across, channels, height, width = images.shape
    tall, wide = height + gap, width + gap
    sheet = torch.ones(count_down * tall - gap, count_across * wide - gap, channels)
    for row in range(count_down):
        for column in range(count_across):
            sheet[row * tall : row * tall + height, column * wide : column * wide + width] = images[
                row, column
            ].movedim(0, -1)
    zoom = max(1, round(72 / height))  # about 72 screen pixels an image
    inch = 100
    figure = Figure(
        figsize=((sheet.shape[1] * zoom + (130 if rows else 40)) / inch, (sheet.shape[0] * zoom + 80) / inch),
        dpi=inch,
        layout="constrained",
    )
    axes = figure.subplots()
    # Enlarged by whole pixels here, so that no resampling blurs what is compared.
    pixels = np.kron(to_pixels(sheet.movedim(-1, 0)), np.ones((zoom, zoom, 1), np.uint8))
    axes.imshow(pixels[..., 0] if channels == 1 else pixels, cmap="gray", vmin=0, vmax=255)
    axes.set_title(textwrap.fill(title, max(12, sheet.shape[1] * zoom // 8), break_long_words=False), fontsize=11)
    axes.set_yticks([(row * tall + height / 2) * zoom for row in range(count_down)] if rows else [], rows)
    axes.set_xticks([(column * wide + width / 2) * zoom for column in range(count_across)] if columns else [], columns)
    axes.xaxis.tick_top()
    axes.tick_params(length=0, labelsize=9)
    axes.spines[:].set_visible(False)
    figure.savefig(path)


def pairs(rows: Mapping[str, Tensor], path: str | Path, *, title: str = "", columns: int = 10) -> None:
    """Write versions of the same images under each other, in blocks of ``columns`` images.

    Args:
        rows: label of a version to its images, shape ``(N, C, H, W)``, the same ``N`` for all.
        path, title: as for :func:`grid`.
        columns: images beside each other.
    """
    versions = torch.stack(list(rows.values()))  # (versions, N, C, H, W)
    count = versions.shape[1]
    columns = min(columns, count)
    missing = -count % columns
    versions = torch.cat([versions, torch.ones(len(versions), missing, *versions.shape[2:])], 1)
    blocks = versions.unflatten(1, (-1, columns)).transpose(0, 1).flatten(0, 1)
    grid(blocks, path, title=title, rows=list(rows) * (len(blocks) // len(rows)))


def curves(lines: Mapping[str, tuple[Sequence[float], Sequence[float]]], path: str | Path, *, title: str = "") -> None:
    """Write one small plot a quantity against the training step.

    Args:
        lines: name to steps and values.
        path, title: as for :func:`grid`.
    """
    across = min(3, max(1, len(lines)))
    down = -(-len(lines) // across)
    figure = Figure(figsize=(3.6 * across, 2.4 * down + 0.3), dpi=100, layout="constrained")
    figure.suptitle(title, fontsize=11)
    for axes, (name, (steps, values)) in zip(
        figure.subplots(down, across, squeeze=False).flat, lines.items(), strict=False
    ):
        axes.plot(steps, values, linewidth=1)
        axes.set_title(name, fontsize=10)
        axes.set_xlabel("step", fontsize=8)
        axes.tick_params(labelsize=8)
        axes.grid(alpha=0.3)
    for axes in figure.axes[len(lines) :]:
        axes.remove()
    figure.savefig(path)
