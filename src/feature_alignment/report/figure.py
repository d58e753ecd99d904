"""Matplotlib figures, in memory or in a file. Needs the extra ``[train]``."""

from __future__ import annotations

import io
import math
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

from ..extras import require
from ..files import write_atomically
from .words import drawn

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
else:  # at import, so that a missing library is reported before a training and not after it
    Figure = require("matplotlib.figure", "train", "pictures").Figure

__all__ = ["DPI", "Figure", "finish", "new_axes", "new_figure", "new_panels"]

DPI = 100
#: Largest side of a picture in formats that have one, in pixels.
LARGEST = {"webp": 16_383, "jpg": 65_500, "jpeg": 65_500}


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure; width and height in inches."""
    return Figure(figsize=(width, height), dpi=DPI, layout="constrained")


def new_axes(width: float, height: float, title: str) -> tuple[Figure, Axes]:
    """Return a figure with one plot under a title, which is wrapped."""
    figure = new_figure(width, height)
    axes = figure.subplots()
    (title,), fonts = drawn([title])
    axes.set_title(textwrap.fill(title, 60), fontsize=11, fontfamily=fonts)
    return figure, axes


def new_panels(count: int, most_across: int, size: tuple[float, float, float], title: str) -> tuple[Figure, list[Axes]]:
    """Return a figure with ``count`` plots on a grid.

    Args:
        count: number of plots.
        most_across: maximum number of columns.
        size: width and height of a plot, and height of the title, in inches.
        title: of the figure.
    """
    width, height, head = size
    across = min(most_across, max(1, count))
    down = -(-count // across)
    figure = new_figure(width * across, height * down + head)
    (title,), fonts = drawn([title])
    figure.suptitle(title, fontsize=11, fontfamily=fonts)
    panels = list(figure.subplots(down, across, squeeze=False).flat)
    for axes in panels[count:]:
        axes.remove()
    return figure, panels[:count]


def finish(figure: Figure, path: str | Path | None) -> bytes:
    """Return the figure as a picture, and write it to ``path`` if there is one.

    The format is that of the path's extension; PNG by default.
    """
    place = None if path is None else Path(path)
    if place is not None and not place.suffix:
        place = place.with_name(f"{place.name}.png")
    content = io.BytesIO()
    kind = place.suffix[1:] if place is not None else "png"
    width, height = (figure.get_size_inches() * figure.dpi).round().astype(int)
    if max(width, height) > (most := LARGEST.get(kind.lower(), math.inf)):
        raise OSError(
            f"{place}: {kind} holds at most {most:,} pixels a side, this is {width:,} x {height:,}; write .png"
        )
    figure.savefig(content, format=kind)
    if place is not None:
        write_atomically(place, content.getvalue())
    return content.getvalue()
