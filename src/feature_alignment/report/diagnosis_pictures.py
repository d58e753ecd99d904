"""Pictures of a reversibility report: information against depth, and strips from the image to the last layer."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..data import to_pixels
from ..diagnosis import Diagnosis
from ..extras import require
from . import sheets
from .figure import finish, new_figure
from .pages import data_uri
from .words import drawn

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["embedded", "information_chart", "is_picture", "strips"]

#: The least information drawn: an error twice that of the mean of the other images.
LEAST = -1.0


def is_picture(images: Tensor) -> bool:
    """Whether images can be shown: shape ``(N, C, H, W)`` of one channel or three."""
    return images.ndim == 4 and images.shape[1] in (1, 3)


def embedded(image: Tensor) -> str:
    """Return one image in [0, 1] as a data URI; small ones exactly, large ones as JPEG."""
    pixels = to_pixels(image.detach().float().cpu().nan_to_num().clamp(0, 1))
    picture = require("PIL.Image", "train", "pictures").fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    content, kind = io.BytesIO(), "png" if max(picture.size) < 64 else "jpeg"
    picture.save(content, format=kind, **({} if kind == "png" else {"quality": 92}))
    return data_uri(content.getvalue(), kind)


def strips(networks: Sequence[Diagnosis], path: Path) -> bytes:
    """Draw a row an image and network: the image, then its pre-image of every layer."""
    images = networks[0].images
    longest = max(map(len, networks))
    rows = [
        [image, *(layer.pre_images[place] for layer in each), *[torch.ones_like(image)] * (longest - len(each))]
        for place, image in enumerate(images)
        for each in networks
    ]
    sheet = torch.stack([torch.stack(row) for row in rows]).detach().float().cpu().nan_to_num().clamp(0, 1)
    most = max(10, max(72, images.shape[-1]) // 7)
    names = [each.name for each in networks] * len(images) if len(networks) > 1 else []
    titles = ["image", *("\n".join(dict.fromkeys(broken(name, most) for name in each)) for each in _names(networks))]
    return sheets.grid(sheet, path, rows=[broken(name, 15) for name in names], columns=titles)


def _names(networks: Sequence[Diagnosis]) -> list[list[str]]:
    """Return for every place in depth the layers' names in the networks that have one there."""
    places = zip_longest(*(each.layers for each in networks))
    return [[layer.name for layer in place if layer is not None] for place in places]


def broken(name: str, most: int) -> str:
    """Break a name into lines of at most ``most`` letters, after dots, colons and underscores where possible.

    Example:
        >>> broken("encoder.layers.encoder_layer_10", 15).split()
        ['encoder.layers.', 'encoder_layer_', '10']
    """
    lines = [""]
    for part in re.split(r"(?<=[.:_])", name):
        if lines[-1] and len(lines[-1] + part) > most:
            lines.append("")
        lines[-1] += part
    return "\n".join(line[at : at + most] for line in lines for at in range(0, max(1, len(line)), most))


def information_chart(networks: Sequence[Diagnosis], path: Path | None = None) -> bytes:
    """Plot the information left against depth, beside that of one Gauss-Newton step."""
    longest = max(map(len, networks))
    figure = new_figure(max(6.0, 0.62 * longest + 2), 4.2 + 0.8 * (len(networks) - 1))
    axes = figure.subplots()
    axes.axhline(0, color="0.6", linewidth=1)
    for number, each in enumerate(networks):
        _lines(axes, each, f"C{number}", f"{each.name}, " if len(networks) > 1 else "")
    axes.set_ylabel("information left", fontsize=10)
    shown = [
        value for each in networks for layer in each for value in (layer.information, layer.information_of_one_step)
    ]
    lowest = min([value for value in shown if value >= LEAST], default=0.0)
    axes.set_ylim((LEAST if min(shown, default=0.0) < LEAST else min(0.0, lowest)) - 0.06, 1.05)
    axes.tick_params(axis="y", labelsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.3)
    figure.legend(fontsize=9, frameon=False, loc="outside upper left", ncols=2)
    _ticks(axes, networks[0], "0.15" if len(networks) == 1 else "C0")
    if any(len(names) > 1 for names in map(set, _names(networks))):
        _ticks(axes.secondary_xaxis("top"), networks[1], "C1", above=True)
    return finish(figure, path)


def _lines(axes: Axes, found: Diagnosis, colour: str, prefix: str) -> None:
    (prefix,), _ = drawn([prefix])
    at = range(len(found))
    style: dict[str, Any] = {"color": colour, "linewidth": 1.6}
    axes.plot(at, [layer.information for layer in found], marker="o", markersize=5, label=f"{prefix}pre-image", **style)
    steps = [layer.information_of_one_step for layer in found]
    label = f"{prefix}one Gauss-Newton step"
    axes.plot(at, steps, linestyle="--", marker="o", markersize=4, markerfacecolor="white", label=label, **style)


def _ticks(axes: Any, found: Diagnosis, colour: str, *, above: bool = False) -> None:
    """Name the layers of a network below the plot, or above it."""
    names, fonts = drawn(broken(layer.name, 16) for layer in found)
    slant: dict[str, Any] = {}
    if max(map(len, names), default=0) > 6:
        slant = {"rotation": 40, "ha": "left" if above else "right", "rotation_mode": "anchor"}
    axes.set_xticks(range(len(names)), names, fontfamily=fonts, **slant)
    axes.tick_params(axis="x", labelsize=9, labelcolor=colour)
    if above:
        axes.spines[:].set_visible(False)
