"""Loading images by name, from any of their sources."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from torch import Tensor

from .cache import Decoded
from .errors import DataError
from .images import Images
from .request import Request
from .sets import DATA_SETS, load_named
from .splits import Split

__all__ = ["load", "read_image"]


def load(
    name: str,
    split: Split,
    *,
    image_size: int | None = None,
    channels: int | None = None,
    strict: bool = False,
    image: str | None = None,
    label: str | None = None,
) -> Images:
    """Load one split of a data set; docs/data.md lists the sets and where their files are searched.

    Args:
        name: a name in :data:`DATA_SETS`; or a folder of images in any format PIL reads: one subfolder per
            class, or no subfolders and no labels; with subfolders ``train`` and ``test`` these are the
            splits, otherwise every tenth image is held out; or owner/name of a set on the Hugging Face Hub
            (the prefix ``hf:`` resolves ambiguity), or a folder of parquet files in its format.
        split: ``train`` or ``test``.
        image_size: side of the images: the shorter side is resized, the centre cropped. By default
            that of the data set, 64 for a folder.
        channels: 1 or 3; by default those of the data set, 3 for a folder.
        strict: stop at the first unreadable image of a folder or the Hub instead of skipping it with a warning.
        image: column of the images, for a set of the Hub; by default the only one.
        label: column of the labels, for a set of the Hub: classes, integers or strings; by default ``label``,
            or the only column of classes, or none.

    Raises:
        DataError: an unknown name, a data set whose files are missing, or one without a readable image.
        MissingExtra: a library that this kind of data set needs is not installed.

    Example:
        >>> digits = load("mnist-mini", "test", image_size=32)
        >>> digits.pixels.shape, len(digits.classes)
        (torch.Size([500, 1, 32, 32]), 10)
    """
    found = _found(name, Request(split, image_size, channels, strict, image, label))
    return Images(name, split, found.pixels, found.labels, found.classes)


def _found(name: str, request: Request) -> Decoded:
    # Imported here: folders and sets of the Hub need libraries that named sets do not.
    if _is_on_hub(name):
        from .hub import load_hub

        return load_hub(name.removeprefix("hf:"), request)
    if (request.image, request.label) != (None, None):
        raise DataError(f"image, label: are columns of a data set of the Hugging Face Hub, which {name!r} is not")
    if name in DATA_SETS:
        return load_named(name, request)
    if Path(name).is_dir():
        from .folders import load_folder

        return load_folder(Path(name).resolve(), request)
    raise DataError(
        f"data set {name!r}: neither a known name ({', '.join(DATA_SETS)}) nor a folder that exists nor "
        "owner/name on the Hugging Face Hub"
    )


def _is_on_hub(name: str) -> bool:
    if name.startswith("hf:"):
        return name != "hf:"
    if Path(name).is_dir():
        return name not in DATA_SETS and any(Path(name).rglob("*.parquet"))
    return re.fullmatch(r"\w[\w.-]*/[\w.-]+", name) is not None


def read_image(path: str | Path, image_size: int, channels: int) -> Tensor:
    """Read an image file: orient it, resize its shorter side, crop the centre; transparency becomes white.

    Args:
        path: a file in any format PIL reads.
        image_size: side of the result.
        channels: 1 (grey) or 3 (RGB).

    Returns:
        uint8, shape ``(channels, image_size, image_size)``.

    Raises:
        DataError: the file is missing or not a readable image.
        MissingExtra: PIL is not installed.
    """
    from .decoding import decode_image

    if channels not in (1, 3):
        raise DataError(f"channels: expected 1 or 3, got {channels}")
    return torch.from_numpy(decode_image(str(path), Path(path), image_size, channels).copy())
