"""A canvas to draw on, onto which image files can be dropped."""

from __future__ import annotations

from typing import Any

import torch

from ..data.white import Given
from ..models import Model
from .markup import data_url
from .uploads import MOST_BYTES, is_file, pixels_of
from .web import ASSETS, gradio

__all__ = ["SIDE", "pad", "paper_of", "repainted"]

#: Width of the canvas in its own pixels.
SIDE = 280


def pad(background: float, image_side: int, *, elem_id: str, picture: torch.Tensor | None = None) -> gradio.HTML:
    """Return the canvas; its event is ``input``, its value a data URL (see :mod:`.uploads`) or empty.

    Args:
        background: grey value of the empty canvas, in [0, 1].
        image_side: of the images that it is drawn for; the brush is about two of their pixels wide, and not too thin.
        elem_id: of the element.
        picture: what is shown at first, shape ``(C, H, W)``.
    """
    return gradio.HTML(
        "" if picture is None else data_url(picture),
        html_template=(ASSETS / "pad.html").read_text(),
        js_on_load=(ASSETS / "pad.js").read_text(),
        apply_default_css=False,
        elem_id=elem_id,
        background=_grey(background),
        ink="#000000" if background > 0.5 else "#ffffff",
        brush=max(12, min(60, round(2.2 * SIDE / image_side))),
        most_bytes=MOST_BYTES,
    )


def paper_of(model: Model) -> float:
    """Return the grey value around what a model's images show: the median of the borders of a few samples."""
    images = model.sample(32, generator=torch.Generator().manual_seed(0)).mean(1)
    border = torch.cat([images[:, 0], images[:, -1], images[:, :, 0], images[:, :, -1]], 1)
    grey = float(torch.nan_to_num(border.float()).median().clamp(0, 1))
    return round(grey) if abs(grey - round(grey)) < 0.25 else grey  # nearly black is meant to be black


def repainted(url: str, white: Given) -> Any:
    """Return what a canvas shows of a file that was dropped onto it: the square that the model is given of it."""
    return data_url(pixels_of(url, (3, SIDE, SIDE), white)[0]) if is_file(url) else gradio.skip()


def _grey(value: float) -> str:
    return f"#{round(255 * value):02x}" + 2 * f"{round(255 * value):02x}"
