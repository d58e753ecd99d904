"""The labelled images of STL-10, 5,000 and 8,000."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..cache import Meta, data_directory, store
from ..errors import DataError
from ..images import Pixels
from ..splits import Split
from .named_set import FilesMissing, NamedSet

__all__ = ["STL10"]

CLASSES = ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck")


def _read(split: Split, directory: Path) -> Meta:
    folder = data_directory() / "stl10_binary"
    images, labels = folder / f"{split}_X.bin", folder / f"{split}_y.bin"
    if not (images.is_file() and labels.is_file()):
        raise FilesMissing(
            f"stl10: no {images.name} and {labels.name} in {folder}",
            f"unpack the archive of https://cs.stanford.edu/~acoates/stl10/ in {folder.parent}",
        )
    classes = np.fromfile(labels, np.uint8).astype(np.int64) - 1  # they count from 1
    return store(directory, str(folder), _pixels_of(images), classes, CLASSES)


def _pixels_of(path: Path) -> Pixels:
    """Memory-map a file of images that are stored column by column."""
    try:
        pixels: Pixels = np.memmap(path, np.uint8, "r").reshape(-1, 3, 96, 96)
    except ValueError:
        size = path.stat().st_size
        raise DataError(f"{path}: expected whole images of 3 x 96 x 96 bytes, got {size} bytes") from None
    return pixels.transpose(0, 1, 3, 2)


STL10 = NamedSet(_read, (3, 96, 96), "tanganke/stl10")
