"""Pictures and latents as HTML that needs no file: images are embedded, and enlarged by the browser without blur."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..data import to_pixels
from ..extras import require

__all__ = ["bars", "data_url", "figure", "figures", "grid", "line"]


def data_url(image: Tensor) -> str:
    """Return an image in [0, 1], shape ``(C, H, W)``, as a PNG in a data URL.

    Example:
        >>> data_url(torch.zeros(1, 2, 2))[:22]
        'data:image/png;base64,'
    """
    pixels: Any = to_pixels(torch.nan_to_num(image.detach().float()))
    picture = require("PIL.Image", "train", "pictures").fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    picture.save(file := io.BytesIO(), "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def figure(image: Tensor, caption: str, kind: str = "") -> str:
    """Return an image, shape ``(C, H, W)``, above its caption; ``kind`` is a word by which it can be found."""
    said = html.escape(caption)
    return (
        f'<figure data-kind="{html.escape(kind)}"><img src="{data_url(image)}" alt="{said}">'
        f"<figcaption>{said}</figcaption></figure>"
    )


def figures(*parts: str) -> str:
    """Return figures side by side."""
    return f'<div class="fa-figures">{"".join(parts)}</div>'


def grid(rows: Sequence[Tensor], names: Sequence[str] = ()) -> str:
    """Return rows of images, each of shape ``(N, C, H, W)``, each row with its name on the left."""
    titles = list(names) or [""] * len(rows)
    lines = []
    for images, name in zip(rows, titles, strict=True):
        cells = "".join(f'<img src="{data_url(image)}" alt="">' for image in images)
        lines.append(f'<div class="fa-row"><span>{html.escape(name)}</span>{cells}</div>')
    return f'<div class="fa-grid{"" if names else " fa-bare"}">{"".join(lines)}</div>'


def bars(values: Tensor, title: str) -> str:
    """Return numbers, shape ``(K,)``, as bars up and down from zero, on a scale of at least 3."""
    numbers = torch.nan_to_num(values.detach().float().flatten()).tolist()
    limit = max([3.0, *map(abs, numbers)])
    rects = "".join(
        f'<rect x="{place + 0.1:.1f}" width="0.8" y="{-max(value, 0):.3f}" height="{abs(value):.3f}">'
        f"<title>{place}: {value:.2f}</title></rect>"
        for place, value in enumerate(numbers)
    )
    count = len(numbers)
    return (
        f'<figure class="fa-bars" data-kind="latent"><svg viewBox="0 {-limit:.3f} {count} {2 * limit:.3f}" '
        f'preserveAspectRatio="none" role="img" aria-label="{html.escape(title)}">{rects}'
        f'<line x1="0" x2="{count}" y1="0" y2="0"/></svg><figcaption>{html.escape(title)}</figcaption></figure>'
    )


def line(text: str, *, wrong: bool = False) -> str:
    """Return one line of text for the user, marked if something is wrong."""
    return f'<p class="fa-line{" fa-wrong" if wrong else ""}" role="status">{html.escape(text)}</p>'
