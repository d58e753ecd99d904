"""What the browser sends, as a network's pixels: a drawing, or the bytes of a file that was dropped."""

from __future__ import annotations

import base64
import binascii
import re
import warnings
from urllib.parse import unquote

import torch
from torch import Tensor

from ..data import DataError
from ..data.findings import Findings
from ..data.picture import decode_image, white_of
from ..data.white import Given

__all__ = ["MOST_BYTES", "Refused", "is_file", "pixels_of"]

#: Larger files are refused, here and by the page.
MOST_BYTES = 50_000_000

_URL = re.compile(r"data:(?P<kind>[^;,]*)(?:;name=(?P<name>[^;,]*))?;base64,(?P<content>.*)", re.DOTALL)


class Refused(Exception):  # noqa: N818 (not an error of the program)
    """A picture that cannot be used; the message is one line for the user."""


def is_file(url: str) -> bool:
    """Whether it is a file that was dropped, and not a drawing."""
    return url.startswith("data:") and ";name=" in url[:500]


def pixels_of(url: str, image_shape: tuple[int, ...], white: Given | None = None) -> Tensor:
    """Decode a picture as ``falign`` decodes image files: oriented, the shorter side resized, the centre cropped.

    Args:
        url: a data URL, ``data:TYPE;base64,...``, of a file in any format that PIL reads; ``;name=NAME`` before
            ``;base64`` is its name in messages.
        image_shape: ``(C, H, W)``.
        white: the value of white in pictures of more than 8 bits, as of :func:`feature_alignment.data.read_image`.

    Returns:
        float32 in [0, 1], shape ``(1, C, H, W)``.

    Raises:
        Refused: it is not a picture, or too large.

    Example:
        >>> pixels_of("data:text/plain;name=notes.txt;base64,aGVsbG8=", (1, 8, 8))
        Traceback (most recent call last):
        feature_alignment.explorer.uploads.Refused: notes.txt: not a readable image (format not recognised)
    """
    name, content = _content(url)
    channels, height, width = image_shape
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # damaged metadata, which is not used
            scale = white_of(lambda: [(name, content)], Findings(), white)
            pixels = torch.from_numpy(decode_image(name, content, max(height, width), channels, scale).copy())
    except DataError as error:
        raise Refused(str(error)) from None
    top, left = (pixels.shape[-2] - height) // 2, (pixels.shape[-1] - width) // 2
    return pixels[None, :, top : top + height, left : left + width].float() / 255


def _content(url: str) -> tuple[str, bytes]:
    """Return name and bytes."""
    found = _URL.fullmatch(url) if isinstance(url, str) else None
    if found is None:
        raise Refused("no picture: expected a data URL, data:image/png;base64,...")
    name = " ".join(unquote(found["name"] or "the drawing").split())[:100]
    if len(found["content"]) > 4 / 3 * MOST_BYTES + 4:
        raise Refused(f"{name}: larger than {MOST_BYTES // 10**6} MB")
    try:
        return name, base64.b64decode(found["content"], validate=True)
    except binascii.Error:
        raise Refused(f"{name}: not a readable image (damaged on its way)") from None
