"""Charts of numbers: curves, bars, scatter plots, panels of lines."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..extras import require
from .figure import finish, new_axes, new_panels
from .words import drawn

__all__ = ["Line", "bars", "curves", "plots", "scatter"]

#: Abscissae and values; a third sequence is the values' standard deviations, NaN for none.
Line = tuple[Sequence[float], Sequence[float]] | tuple[Sequence[float], Sequence[float], Sequence[float]]


def curves(lines: Mapping[str, Line], path: str | Path | None = None, *, title: str = "") -> bytes:
    """Plot quantities against the number of updates, one small plot each.

    Args:
        lines: maps each name to update numbers and values.
        path: file to write, in the format of its extension; none for no file.
        title: of the figure.

    Returns:
        The content of the file; PNG if there is no path.
    """
    figure, panels = new_panels(len(lines), 3, (3.6, 2.4, 0.3), title)
    for axes, (name, (steps, values, *_)) in zip(panels, lines.items(), strict=True):
        axes.plot(steps, values, linewidth=1)
        (name,), fonts = drawn([name])
        axes.set_title(name, fontsize=10, fontfamily=fonts)
        axes.set_xlabel("step", fontsize=8)
        axes.tick_params(labelsize=8)
        axes.grid(alpha=0.3)
    return finish(figure, path)


def bars(
    groups: Mapping[str, tuple[float, float | None]],
    path: str | Path | None = None,
    *,
    title: str = "",
    unit: str = "",
) -> bytes:
    """Draw one bar per group, labelled with its value, and an error bar of one standard deviation if there is one.

    Args:
        groups: maps each label to mean and standard deviation, which may be none.
        path, title: as for :func:`curves`.
        unit: what the bars measure.

    Returns:
        As :func:`curves`.
    """
    figure, axes = new_axes(max(4.0, 1.1 * len(groups) + 1), 3.2, title)
    means = [mean for mean, _ in groups.values()]
    names, fonts = drawn(groups)
    whiskers = [math.nan if deviation is None else deviation for _, deviation in groups.values()]
    placed = axes.bar(range(len(names)), means, yerr=whiskers, capsize=4)
    axes.set_xticks(range(len(names)), [textwrap.fill(name, 14) for name in names], fontfamily=fonts)
    axes.bar_label(placed, [f"{mean:.3g}" if mean < 1000 else f"{mean:,.0f}" for mean in means], padding=2, fontsize=9)
    axes.margins(y=0.15)
    axes.set_ylabel(unit, fontsize=9)
    axes.tick_params(labelsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    return finish(figure, path)


def scatter(
    points: Tensor,
    labels: Tensor | None,
    classes: Sequence[str],
    path: str | Path | None = None,
    *,
    title: str = "",
) -> bytes:
    """Draw points in the plane, coloured by class.

    Args:
        points: shape ``(N, 2)``.
        labels: class of each, shape ``(N,)``, or none.
        classes: their names.
        path, title: as for :func:`curves`.

    Returns:
        As :func:`curves`.
    """
    figure, axes = new_axes(6.4, 5, title)
    colours = require("matplotlib", "train", "pictures").colormaps["tab10" if len(classes) <= 10 else "tab20"]
    names, fonts = drawn(classes)
    groups = [(index, name, labels == index) for index, name in enumerate(names)] if labels is not None else []
    for index, name, chosen in groups or [(0, "", torch.ones(len(points), dtype=torch.bool))]:
        across, up = points[chosen].T.tolist()
        axes.scatter(across, up, s=8, color=colours(index % colours.N), label=name)
    if groups:
        axes.legend(
            loc="center left", bbox_to_anchor=(1, 0.5), prop={"size": 9, "family": fonts}, markerscale=2, frameon=False
        )
    axes.set_xlabel("first neuron", fontsize=9)
    axes.set_ylabel("second neuron", fontsize=9)
    axes.tick_params(labelsize=8)
    return finish(figure, path)


def plots(
    panels: Mapping[str, Mapping[str, Sequence[Line]]],
    path: str | Path | None = None,
    *,
    title: str = "",
    x_label: str = "step",
    x_scale: str = "linear",
    x_ticks: Sequence[float] = (),
    y_label: str = "",
    marker: str = "",
    styles: Mapping[str, Mapping[str, str]] | None = None,
) -> bytes:
    """Draw panels of lines with a logarithmic ordinate.

    Args:
        panels: maps each panel's title to its quantities, and each quantity's label to lines of the same colour.
        path, title: as for :func:`curves`.
        x_label, x_scale: of the abscissae; scales as matplotlib names them.
        x_ticks: abscissae that get a tick; by default round ones.
        y_label: of the ordinates.
        marker: of the points, as matplotlib names it.
        styles: by label, what matplotlib's ``errorbar`` is given, such as ``color``; others are coloured in turn.

    Returns:
        As :func:`curves`.
    """
    styles = styles or {}
    figure, placed = new_panels(len(panels), 2, (6, 3.6, 0.4), title)
    ticker = require("matplotlib.ticker", "train", "pictures")
    for axes, (name, quantities) in zip(placed, panels.items(), strict=True):
        for number, (label, lines) in enumerate(quantities.items()):
            style: dict[str, Any] = {"color": f"C{number}", "marker": marker, "markersize": 4, "linewidth": 1}
            style.update(styles.get(label, {}))
            for place, (at, values, *deviations) in enumerate(lines):
                name_once = label if place == 0 else None
                axes.errorbar(at, values, deviations[0] if deviations else None, capsize=3, label=name_once, **style)
        axes.set_xscale(x_scale)
        axes.set_yscale("log")
        for axis in (axes.yaxis, *([axes.xaxis] if x_scale == "log" else [])):  # 20, 50, 100 in the place of 2 x 10^1
            low, high = axis.get_view_interval()
            subs: tuple[float, ...] = (1,)  # of many powers of ten, no more
            if high < 1e4 * low:
                subs = (1, 2, 5) if high > 20 * low else (1, 2, 3, 5, 7)
            if high < 4 * low:
                subs = (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8)
            axis.set_major_locator(ticker.LogLocator(subs=subs) if high > 2 * low else ticker.MaxNLocator(6))
            axis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))
            axis.set_minor_formatter(ticker.NullFormatter())
        if x_ticks:
            axes.set_xticks(x_ticks)
        (name,), fonts = drawn([name])
        axes.set_title(name, fontsize=10, fontfamily=fonts)
        axes.set_xlabel(x_label, fontsize=8)
        axes.set_ylabel(y_label, fontsize=8)
        axes.tick_params(labelsize=8)
        axes.legend(fontsize=7)
        axes.grid(alpha=0.3)
    return finish(figure, path)
