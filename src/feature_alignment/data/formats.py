"""Which files are images: by their extension; by their first bytes where there is none."""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, BinaryIO

from ..extras import require

__all__ = ["HEIC", "HIDDEN", "formats", "is_heic", "readable", "reason_to_skip", "starts_as_image"]

if TYPE_CHECKING:
    from PIL import Image
else:
    Image = require("PIL.Image", "train", "reading images")

#: Reason for skipping photographs of telephones.
HEIC = "HEIC photographs need pillow-heif: pip install 'feature-alignment[heic]'"

#: Reason for skipping files and folders that people did not put there.
HIDDEN = "hidden or a system's own"

HEIC_ENDINGS = (".heic", ".heics", ".heif", ".heifs", ".hif")
RAW_ENDINGS = (
    ".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dng", ".erf", ".iiq", ".kdc", ".mrw", ".nef", ".nrw", ".orf", ".pef",
    ".raf", ".raw", ".rw2", ".rwl", ".sr2", ".srf", ".srw", ".x3f",
)  # fmt: skip
#: Files and folders that systems leave behind, beside those whose name begins with a dot.
OF_SYSTEMS = {
    "__macosx", "@eadir", "$recycle.bin", "system volume information", "lost+found", "thumbs.db", "ehthumbs.db",
    "desktop.ini",
}  # fmt: skip
#: What PIL lists among its formats but cannot decode by itself, or decodes by running another program.
NOT_DECODED = ("BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF")


@functools.cache
def formats() -> tuple[str, ...]:
    """Return PIL's names of the formats that are read; HEIF among them if pillow-heif is installed."""
    if importlib.util.find_spec("pillow_heif"):
        require("pillow_heif", "heic", "HEIC photographs").register_heif_opener()
    Image.init()
    return tuple(name for name in Image.OPEN if name not in NOT_DECODED)


def readable() -> list[str]:
    """Return the formats of an extra that is installed, for the keys of caches: what is skipped without it stays so."""
    return ["HEIF"] if "HEIF" in formats() else []


@functools.cache
def _endings() -> frozenset[str]:
    read = formats()  # first: it registers more of them
    known = {ending for ending, name in Image.registered_extensions().items() if name in read}
    return frozenset(known | {".mpo"})  # two JPEG images in one file, which PIL lists for writing alone


def reason_to_skip(path: str) -> str | None:
    """Return why a file is not read as an image, by its name; none if it is, ``""`` if only its content can tell.

    Args:
        path: below the data set's folder, with ``/``.

    Example:
        >>> [reason_to_skip(name) for name in ("cat/1.JPG", "cat/2", "README.pdf")]
        [None, '', 'no image format: .pdf']
    """
    parts = path.split("/")
    if any(part.startswith(".") or part.casefold() in OF_SYSTEMS for part in parts):
        return HIDDEN
    ending = PurePosixPath(parts[-1]).suffix.lower()
    if ending in _endings():
        return None
    if ending in HEIC_ENDINGS:
        return HEIC
    if ending in RAW_ENDINGS:
        return "raw photographs have to be converted, such as to TIFF"
    return f"no image format: {ending}" if ending else ""


def starts_as_image(file: Path | BinaryIO) -> bool:
    """Whether a file without extension begins as an image does."""
    # Formats without a signature recognise almost anything.
    signed = [name for name in formats() if Image.OPEN[name][1] is not None]
    try:
        with Image.open(file, formats=signed):
            return True
    except Exception:  # the readers of PIL raise anything
        return False


def is_heic(start: bytes) -> bool:
    """Whether a file that begins with these 12 bytes is HEIC, whatever its name."""
    return start[4:8] == b"ftyp" and start[8:12] in (b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1")
