"""Every picture: grids of images with labels, and curves of the losses."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from ..data import to_pixels

__all__ = ["bars", "curves", "grid", "pairs", "plots", "save_image", "scatter"]


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
    images = images.cpu()
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
    versions = torch.stack([each.cpu() for each in rows.values()])  # (versions, N, C, H, W)
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


def bars(
    groups: Mapping[str, tuple[float, float | None]], path: str | Path, *, title: str = "", unit: str = ""
) -> None:
    """Write one bar a group, with its value above and a whisker of one standard deviation.

    Args:
        groups: label to mean and standard deviation, which may be none.
        path, title: as for :func:`grid`.
        unit: what the bars measure.
    """
    figure = Figure(figsize=(max(4.0, 1.1 * len(groups) + 1), 3.2), dpi=100, layout="constrained")
    axes = figure.subplots()
    means = [mean for mean, _ in groups.values()]
    drawn = axes.bar(list(groups), means, yerr=[deviation or 0 for _, deviation in groups.values()], capsize=4)
    axes.bar_label(drawn, [f"{mean:.3g}" for mean in means], padding=2, fontsize=9)
    axes.margins(y=0.15)
    axes.set_ylabel(unit, fontsize=9)
    axes.set_title(textwrap.fill(title, 60), fontsize=11)
    axes.tick_params(labelsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)


def scatter(
    points: Tensor, labels: Tensor | None, classes: Sequence[str], path: str | Path, *, title: str = ""
) -> None:
    """Write points in the plane, coloured by class.

    Args:
        points: shape ``(N, 2)``.
        labels: class of each, shape ``(N,)``, or none.
        classes: their names.
        path, title: as for :func:`grid`.
    """
    figure = Figure(figsize=(6.4, 5), dpi=100, layout="constrained")
    axes = figure.subplots()
    colours = matplotlib.colormaps["tab10" if len(classes) <= 10 else "tab20"]
    groups = [(index, name, labels == index) for index, name in enumerate(classes)] if labels is not None else []
    for index, name, chosen in groups or [(0, "", torch.ones(len(points), dtype=torch.bool))]:
        across, up = points[chosen].T.tolist()
        axes.scatter(across, up, s=8, color=colours(index % colours.N), label=name)
    if groups:
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize=9, markerscale=2, frameon=False)
    axes.set_xlabel("first neuron", fontsize=9)
    axes.set_ylabel("second neuron", fontsize=9)
    axes.set_title(textwrap.fill(title, 60), fontsize=11)
    axes.tick_params(labelsize=8)
    figure.savefig(path)


def plots(
    panels: Mapping[str, Mapping[str, Sequence[tuple[Sequence[float], Sequence[float]]]]],
    path: str | Path,
    *,
    title: str = "",
    x_label: str = "step",
    x_scale: str = "linear",
    marker: str = "",
) -> None:
    """Write panels of lines beside each other, their values on a logarithmic scale.

    Args:
        panels: title of a panel to its quantities: label to lines of the same colour, each of abscissae and values.
        path, title: as for :func:`grid`.
        x_label, x_scale: of the abscissae; scales as matplotlib names them.
        marker: of the points, as matplotlib names it.
    """
    across = min(2, max(1, len(panels)))
    down = -(-len(panels) // across)
    figure = Figure(figsize=(6 * across, 3.6 * down + 0.4), dpi=100, layout="constrained")
    figure.suptitle(title, fontsize=11)
    for axes, (name, quantities) in zip(
        figure.subplots(down, across, squeeze=False).flat, panels.items(), strict=False
    ):
        for number, (label, lines) in enumerate(quantities.items()):
            for place, (at, values) in enumerate(lines):
                name_once = label if place == 0 else None
                axes.plot(at, values, color=f"C{number}", marker=marker, markersize=4, linewidth=1, label=name_once)
        axes.set_xscale(x_scale)
        axes.set_yscale("log")
        axes.set_title(name, fontsize=10)
        axes.set_xlabel(x_label, fontsize=8)
        axes.tick_params(labelsize=8)
        axes.legend(fontsize=7)
        axes.grid(alpha=0.3)
    for axes in figure.axes[len(panels) :]:
        axes.remove()
    figure.savefig(path)
