"""IDX files, the format of MNIST."""

from __future__ import annotations

import gzip
import math
import struct
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np

from ..cache import Meta, store
from ..compressed import DAMAGED, EXPANSION, Readable, unpacked
from ..errors import DataError, one_line
from ..images import Pixels
from ..splits import Split

__all__ = ["idx_files", "store_idx"]

#: Of the images of MNIST, Fashion-MNIST and their like.
SIDE = 28


def idx_files(folder: Path, split: Split) -> tuple[Path, Path] | None:
    """Return the files of images and of labels, gzipped or not, if both are there."""
    part = "train" if split == "train" else "t10k"
    found = [
        next((file for file in (folder / name, folder / f"{name}.gz") if file.is_file()), None)
        for name in (f"{part}-images-idx3-ubyte", f"{part}-labels-idx1-ubyte")
    ]
    return (found[0], found[1]) if found[0] and found[1] else None


def store_idx(directory: Path, files: tuple[Path, Path], classes: Sequence[str]) -> Meta:
    """Decode a file of grey images of 28 x 28 pixels and one of labels into ``directory``."""
    images, labels = files
    pixels = _read(images, SIDE, SIDE)[:, None]
    return store(directory, str(images.parent), pixels, _read(labels).astype(np.int64), classes)


def _read(path: Path, *shape: int) -> Pixels:
    """Read an IDX file of bytes: magic 0, 0, 8, number of dimensions; big-endian sizes; values.

    Args:
        path: gzipped if it ends so.
        shape: expected of each value.
    """
    try:
        file = unpacked(path, gzip.open) if path.suffix == ".gz" else path.open("rb")
        with closing(file):
            count, size = _count(file, *shape), path.stat().st_size
            if count * math.prod(shape) > EXPANSION * size:  # before as much memory is asked for
                raise ValueError(f"{count:,} values cannot be in {size:,} bytes")
            content = file.read(count * math.prod(shape) + 1)  # to the end, where the checksum is
        return np.frombuffer(content, np.uint8).reshape(count, *shape)
    except (*DAMAGED, struct.error) as error:
        raise DataError(f"{path}: not a readable IDX file ({one_line(error)})") from None


def _count(file: Readable, *shape: int) -> int:
    """Read the header; return the number of values."""
    dimensions = 1 + len(shape)
    if file.read(4) != bytes([0, 0, 8, dimensions]):
        raise ValueError(f"not bytes in {dimensions} dimensions")
    found: tuple[int, ...] = struct.unpack(f">{dimensions}I", file.read(4 * dimensions))
    if found[1:] != shape:
        raise ValueError(f"images of {' x '.join(map(str, found[1:]))}, expected {' x '.join(map(str, shape))}")
    return found[0]
