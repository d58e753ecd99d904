"""One image decoded by PIL. Needs the extra ``[train]``."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias

import numpy as np

from ..extras import require
from .errors import UnreadableImage, one_line
from .findings import Findings
from .formats import HEIC, formats, is_heic
from .images import Pixels
from .white import Given, White, is_deep

__all__ = ["MOST_PIXELS", "Content", "Picture", "decode_image", "deep_pictures", "header", "white_of"]

if TYPE_CHECKING:
    import PIL
    from PIL import Image, ImageOps
else:
    PIL = require("PIL", "train", "reading images")
    Image, ImageOps = (require(f"PIL.{name}", "train", "reading images") for name in ("Image", "ImageOps"))

#: The bytes of an image, the file that has them, or why there are none.
Content: TypeAlias = Path | bytes | UnreadableImage

#: An image not yet decoded: its name in messages, and its content.
Picture: TypeAlias = tuple[str, Content]

#: An image with more pixels is not decoded: at 4 bytes each and three copies, 770 MB.
MOST_PIXELS = 64_000_000

TOO_LARGE = f"more than {MOST_PIXELS // 10**6} million pixels"

ORIENTATION = 0x0112  # EXIF's tag
PHOTOMETRIC = 262  # TIFF's tag; 0 where 0 is white
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # fmt: skip
_one_large_at_a_time = threading.Lock()


def decode_image(
    name: str, content: Content, image_size: int, channels: int, white: White, findings: Findings | None = None
) -> Pixels:
    """Decode one image: orient it, resize its shorter side, crop the centre; transparency becomes white.

    Args:
        name: of the image, in messages.
        content: its file or bytes.
        image_size: side of the result.
        channels: 1 (grey) or 3 (RGB).
        white: of images of more than 8 bits.

    Returns:
        uint8, shape ``(channels, image_size, image_size)``.

    Raises:
        UnreadableImage: the file is missing or not a readable image.
    """
    try:
        with _opened(name, content) as picture:
            picture.draft(None, (2 * image_size, 2 * image_size))  # JPEG: decode at the least size that is enough
            width, height = picture.size
            if width * height > MOST_PIXELS:
                raise UnreadableImage(name, f"{width} x {height}", TOO_LARGE)
            if findings is not None:
                _tell(findings, name, picture)
            with _one_large_at_a_time if width * height > MOST_PIXELS / 8 else nullcontext():
                return _decoded(name, picture, image_size, channels, white)
    except UnreadableImage:
        raise
    except Exception as error:  # PIL's readers of damaged files raise anything
        raise _unreadable(name, error, content) from None


def _decoded(name: str, picture: Image.Image, side: int, channels: int, white: White) -> Pixels:
    picture.load()
    fitted = _fitted(_eight_bits(name, picture, side, white) if is_deep(picture.mode) else _plain(picture), side)
    if (turn := _TURNS.get(_orientation(picture))) is not None:  # to mirror is 0
        fitted = fitted.transpose(turn)
    if fitted.mode == "RGBA":
        fitted = Image.alpha_composite(Image.new("RGBA", fitted.size, "white"), fitted)
    array = np.asarray(fitted.convert("L" if channels == 1 else "RGB"), np.uint8)
    return array[None] if array.ndim == 2 else array.transpose(2, 0, 1)


def _tell(findings: Findings, name: str, picture: Image.Image) -> None:
    """Tell of what is in the file and is not read: further pages, the low bits of colours; before it is loaded."""
    try:
        pages = 1 if picture.format == "MPO" else getattr(picture, "n_frames", 1)  # of a camera, beside the photograph
    except Exception:  # damaged further pages; the first may be whole
        pages = 1
    if pages > 1:
        findings.skip("pages or frames of a file after its first", name, pages - 1)
    if not is_deep(picture.mode) and any(_is_wide(each) for each in getattr(picture, "tile", [])):
        findings.note(
            "of images of 16 bits in colour, or beside transparency, 65535 is white, whatever --data.white is: their "
            "lower 8 bits are not read; save those that use fewer bits with 8"
        )


def _is_wide(tile: tuple[Any, ...]) -> bool:
    """Whether a part of a file has more than 8 bits a channel: by the layout that its reader was told."""
    codec, layout = tile[0], tile[-1] if isinstance(tile[-1], tuple) else (tile[-1],)
    if codec.startswith("ppm"):  # (mode, largest value)
        return bool(layout[-1] > 255)
    # BGR;16 has 5 and 6 bits a channel.
    return any(";16" in each and not each.startswith("BGR") for each in layout if isinstance(each, str))


def _plain(picture: Image.Image) -> Image.Image:
    """Return an image that can be resized: grey, RGB or RGBA."""
    if picture.has_transparency_data:
        return picture if picture.mode == "RGBA" else picture.convert("RGBA")
    if picture.mode in ("L", "RGB"):
        return picture
    return picture.convert("L" if picture.mode == "1" else "RGB")


def _eight_bits(name: str, picture: Image.Image, side: int, white: White) -> Image.Image:
    """Return a grey image of 8 bits from one of more, resized before it is rounded."""
    fitted = _fitted(picture.convert("F"), side)
    values = np.asarray(fitted, np.float64) / white(picture.mode)
    if getattr(picture, "tag_v2", {}).get(PHOTOMETRIC) == 0:
        values = 1 - values  # Pillow inverts images of 8 bits only
    if not np.isfinite(values).all():
        raise UnreadableImage(name, "values that are not finite")
    return Image.fromarray((255 * values.clip(0, 1)).round().astype(np.uint8))


def _fitted(picture: Image.Image, side: int) -> Image.Image:
    if picture.size == (side, side):
        return picture
    return ImageOps.fit(picture, (side, side), Image.Resampling.BICUBIC)


def _orientation(picture: Image.Image) -> int:
    """Return EXIF's orientation; 1, upright, if it cannot be read, as other programs do."""
    try:
        return int(picture.getexif().get(ORIENTATION, 1))
    except Exception:  # damaged EXIF raises anything; the image is whole
        return 1


def _opened(name: str, content: Content) -> Image.Image:
    if isinstance(content, Path) and not content.is_file():
        raise UnreadableImage(name, "", "no such file")
    return Image.open(_source(content), formats=formats())


def _source(content: Content) -> Path | BinaryIO:
    if isinstance(content, UnreadableImage):
        raise content
    return content if isinstance(content, Path) else io.BytesIO(content)


def _unreadable(name: str, error: Exception, content: Content) -> UnreadableImage:
    if isinstance(error, Image.DecompressionBombError):  # PIL's own limit, a higher one
        return UnreadableImage(name, "", TOO_LARGE)
    if not isinstance(error, PIL.UnidentifiedImageError):
        transient = isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno is not None)
        return UnreadableImage(name, one_line(error), transient=transient)
    source = _source(content)
    start = source.open("rb").read(12) if isinstance(source, Path) else source.read(12)
    if is_heic(start) and "HEIF" not in formats():
        return UnreadableImage(name, "", HEIC)
    return UnreadableImage(name, "format not recognised" if start else "empty")


def header(content: Content) -> tuple[tuple[int, int], str] | None:
    """Return size and mode of an image from its header; none if it cannot be read."""
    try:
        with Image.open(_source(content), formats=formats()) as picture:
            return picture.size, picture.mode
    except Exception:  # it will be named when it is decoded
        return None


def deep_pictures(pictures: Iterable[Picture]) -> Iterator[Image.Image]:
    """Yield the images of more than 8 bits that can be read."""
    for _, content in pictures:
        try:
            with Image.open(_source(content), formats=formats()) as picture:
                if is_deep(picture.mode) and picture.width * picture.height <= MOST_PIXELS:
                    picture.load()
                    yield picture
        except Exception:  # it will be named when it is decoded
            continue


def white_of(pictures: Callable[[], Iterable[Picture]], findings: Findings, given: Given | None) -> White:
    """Return the value of white of a data set.

    Args:
        pictures: all of the set, of both splits.
        findings: told of guesses.
        given: the value, if it is known; or those of integers and floating point.
    """
    return White(lambda: deep_pictures(pictures()), findings, given)
