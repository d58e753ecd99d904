"""Image files decoded by PIL: one by one, or a whole split into the cache. Needs the extra ``[train]``."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from ..extras import require
from ..progress import progress
from .cache import Meta, memory_map
from .errors import DataError
from .images import Pixels

__all__ = ["SIDE", "Picture", "common_shape", "decode", "decode_image", "is_image"]

if TYPE_CHECKING:
    import PIL
    from PIL import Image, ImageOps
else:
    PIL = require("PIL", "train", "reading images")
    Image, ImageOps = (require(f"PIL.{name}", "train", "reading images") for name in ("Image", "ImageOps"))

#: An image not yet decoded: its name in messages, and the file or its content.
Picture: TypeAlias = tuple[str, Path | io.BytesIO]

#: Side of the images of CelebA, of a folder, and of a set whose images differ in size.
SIDE = 64
#: PIL's modes without colour.
GREY_MODES = ("1", "L", "LA", "I", "I;16", "I;16B", "I;16L", "F")
#: Exceptions that PIL raises for a damaged or incomplete image.
UNREADABLE = (Image.DecompressionBombError, OSError, SyntaxError, ValueError, EOFError)


def is_image(path: Path) -> bool:
    """Whether this is a file with the extension of an image; hidden ones are not."""
    return path.suffix.lower() in Image.registered_extensions() and not path.name.startswith(".") and path.is_file()


def decode(
    directory: Path,
    title: str,
    pictures: Iterable[Picture],
    labels: Sequence[int],
    classes: Sequence[str],
    image_size: int,
    channels: int,
    strict: bool,
) -> Meta:
    """Decode a split image by image; unreadable images are skipped with a warning each.

    Args:
        directory: to write to.
        title: name of the set in messages.
        pictures, labels: of the split, of equal number; a label of -1 means no label.
        classes: names of the labels.
        image_size, channels: of the result.
        strict: stop at the first unreadable image instead of skipping it.

    Raises:
        DataError: no image can be read, or, if ``strict``, one image cannot.
    """
    pixels = memory_map(directory, (len(labels), channels, image_size, image_size))
    kept: list[int] = []
    broken: list[DataError] = []
    shown = progress(pictures, f"decoding {Path(title).name}", len(labels))
    for (name, file), label in zip(shown, labels, strict=True):
        try:
            pixels[len(kept)] = decode_image(name, file, image_size, channels)
        except DataError as error:
            if strict:
                raise
            broken.append(error)
        else:
            kept.append(label)
    _warn_of(broken, title, len(labels))
    if not kept:
        raise DataError(f"{title}: none of the {len(labels)} images can be read")
    np.save(directory / "labels.npy", np.asarray(kept, np.int64))
    return {"count": len(kept), "classes": list(classes), "skipped": len(broken)}


def _warn_of(broken: Sequence[DataError], title: str, count: int) -> None:
    for each in broken:
        warnings.warn(f"skipped {each}", stacklevel=3)
    if broken:
        warnings.warn(f"{title}: skipped {len(broken)} of {count} images that cannot be read", stacklevel=3)


def decode_image(name: str, file: Path | io.BytesIO, image_size: int, channels: int) -> Pixels:
    """Decode one image: orient it, resize its shorter side, crop the centre; transparency becomes white.

    Args:
        name: of the image, in messages.
        file: its path or content.
        image_size: side of the result.
        channels: 1 (grey) or 3 (RGB).

    Returns:
        uint8, shape ``(channels, image_size, image_size)``.

    Raises:
        DataError: the file is missing or not a readable image.
    """
    picture = _on_white(_in_eight_bits(_upright(name, file))).convert("L" if channels == 1 else "RGB")
    if picture.size != (image_size, image_size):
        picture = ImageOps.fit(picture, (image_size, image_size), Image.Resampling.BICUBIC)
    array = np.asarray(picture, np.uint8)
    return array[None] if array.ndim == 2 else array.transpose(2, 0, 1)


def _upright(name: str, file: Path | io.BytesIO) -> Image.Image:
    if isinstance(file, Path) and not file.is_file():
        raise DataError(f"{name}: no such file")
    try:
        with Image.open(file) as opened:
            picture = ImageOps.exif_transpose(opened)
            picture.load()
    except UNREADABLE as error:
        reason = "format not recognised" if isinstance(error, PIL.UnidentifiedImageError) else str(error)
        raise DataError(f"{name}: not a readable image ({reason})") from None
    return picture


def _in_eight_bits(picture: Image.Image) -> Image.Image:
    if not picture.mode.startswith(("I", "F")):
        return picture
    values = np.asarray(picture, np.float64)  # 16 and 32 bits a pixel: PIL's own conversion clips them at 255
    scale = 65535 if values.max() > 255 else 255
    return Image.fromarray((255 * (values / scale).clip(0, 1)).round().astype(np.uint8))


def _on_white(picture: Image.Image) -> Image.Image:
    if not picture.has_transparency_data:
        return picture
    picture = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)


def common_shape(pictures: Iterable[Picture]) -> tuple[int, int]:
    """Return side and channels from the images' headers: their side if all are squares of it, 1 if all are grey."""
    sizes, grey = set(), True
    for _, file in pictures:
        try:
            with Image.open(file) as picture:
                sizes.add(picture.size)
                grey = grey and picture.mode in GREY_MODES
        except UNREADABLE:  # it will be named when it is decoded
            continue
        if len(sizes) > 1 and not grey:
            break
    width, height = sizes.pop() if len(sizes) == 1 else (SIDE, SIDE)
    return (width if width == height else SIDE), (1 if grey else 3)
