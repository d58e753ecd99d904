"""Compressed files, opened with a limit on what they unpack to."""

from __future__ import annotations

import bz2
import gzip
import lzma
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

__all__ = ["DAMAGED", "EXPANSION", "FREE", "Readable", "opener_of", "unpacked"]

#: How many times its size a file may unpack to, beyond the first ``FREE`` bytes: what compresses better is made to
#: fill the memory. Images are compressed already, and a hundred is what flat drawings reach.
EXPANSION = 100
FREE = 2**26

#: Exceptions for a damaged compressed file.
DAMAGED = (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError)

#: The first bytes of compressed files, and what opens them.
COMPRESSED: dict[bytes, Callable[[Path], Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ": lzma.open,
}


class Readable(Protocol):
    """What bytes are read from."""

    def read(self, size: int, /) -> bytes:
        """Return the next bytes, at most ``size``."""

    def close(self) -> None:
        """Release the file."""


class _Limited:
    """A file that unpacks to no more than its limit; beyond it, reading raises a ValueError."""

    def __init__(self, file: Readable, size: int) -> None:
        self._file, self._left = file, FREE + EXPANSION * size

    def read(self, size: int, /) -> bytes:
        content = self._file.read(size)
        self._left -= len(content)
        if self._left < 0:
            raise ValueError(f"it unpacks to more than {EXPANSION} times its size")
        return content

    def close(self) -> None:
        self._file.close()


def opener_of(path: Path) -> Callable[[Path], Any] | None:
    """Return what opens a compressed file, whatever its name; none if it is not compressed."""
    with path.open("rb") as file:
        start = file.read(6)
    return next((opener for magic, opener in COMPRESSED.items() if start.startswith(magic)), None)


def unpacked(path: Path, opener: Callable[[Path], Any]) -> Readable:
    """Open a compressed file; one that unpacks to ``EXPANSION`` times its size raises a ValueError when that is read.

    Example:
        >>> _ = (folder / "zeros.gz").write_bytes(gzip.compress(bytes(2**20)))
        >>> len(unpacked(folder / "zeros.gz", gzip.open).read(2**22))
        1048576
    """
    return _Limited(opener(path), path.stat().st_size)
