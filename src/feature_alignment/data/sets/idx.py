"""IDX files, the format of MNIST."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..cache import Meta, store
from ..errors import DataError
from ..images import Pixels
from ..splits import Split

__all__ = ["idx_files", "store_idx"]


def idx_files(folder: Path, split: Split) -> tuple[Path, Path] | None:
    """Return the files of images and of labels, gzipped or not, if both are there."""
    part = "train" if split == "train" else "t10k"
    found = [
        next((file for file in (folder / name, folder / f"{name}.gz") if file.is_file()), None)
        for name in (f"{part}-images-idx3-ubyte", f"{part}-labels-idx1-ubyte")
    ]
    return (found[0], found[1]) if found[0] and found[1] else None


def store_idx(directory: Path, files: tuple[Path, Path], classes: Sequence[str]) -> Meta:
    """Decode a file of grey images and one of labels into ``directory``."""
    images, labels = files
    pixels = _read(images, 3)[:, None]
    return store(directory, str(images.parent), pixels, _read(labels, 1).astype(np.int64), classes)


def _read(path: Path, dimensions: int) -> Pixels:
    """Read an IDX file of bytes: magic 0, 0, 8, number of dimensions; big-endian sizes; values."""
    try:
        raw = path.read_bytes()
        raw = gzip.decompress(raw) if path.suffix == ".gz" else raw
        if raw[:4] != bytes([0, 0, 8, dimensions]):
            raise ValueError(f"not bytes in {dimensions} dimensions")
        shape = np.frombuffer(raw, ">u4", dimensions, offset=4)
        return np.frombuffer(raw, np.uint8, offset=4 + 4 * dimensions).reshape(*shape)
    except (OSError, EOFError, ValueError) as error:
        raise DataError(f"{path}: not a readable IDX file ({error})") from None
