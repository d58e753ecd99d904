"""CIFAR-10: things and animals, 50,000 and 10,000, from its binary or its Python version."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..cache import Meta, data_directory, store
from ..errors import DataError, one_line
from ..images import Pixels
from ..splits import Split
from .named_set import FilesMissing, NamedSet

__all__ = ["CIFAR10"]

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def _read(split: Split, directory: Path) -> Meta:
    names = [f"data_batch_{number}" for number in range(1, 6)] if split == "train" else ["test_batch"]
    binary, pickled = data_directory() / "cifar-10-batches-bin", data_directory() / "cifar-10-batches-py"
    if all((binary / f"{name}.bin").is_file() for name in names):
        source, batches = binary, [_read_binary(binary / f"{name}.bin") for name in names]
    elif all((pickled / name).is_file() for name in names):
        source, batches = pickled, [_read_pickle(pickled / name) for name in names]
    else:
        raise FilesMissing(
            f"cifar10: neither {binary.name} nor {pickled.name} with all its batches in {data_directory()}",
            "unpack either archive of https://www.cs.toronto.edu/~kriz/cifar.html there",
        )
    pixels = np.concatenate([pixels for pixels, _ in batches]).reshape(-1, 3, 32, 32)
    return store(directory, str(source), pixels, np.concatenate([labels for _, labels in batches]), CLASSES)


def _read_binary(path: Path) -> tuple[Pixels, npt.NDArray[np.int64]]:
    """Read records of a label and 3,072 bytes: red, green and blue, each row by row."""
    raw = np.fromfile(path, np.uint8)
    if not len(raw) or len(raw) % 3073:
        raise DataError(f"{path}: expected whole records of 3073 bytes, got {len(raw)} bytes")
    records = raw.reshape(-1, 3073)
    return records[:, 1:], records[:, 0].astype(np.int64)


class _ArraysOnly(pickle.Unpickler):
    """An unpickler that constructs NumPy arrays only, since a pickle can call any function that it names."""

    def find_class(self, module: str, name: str) -> Any:
        allowed = {
            ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
            ("numpy", "ndarray"): np.ndarray,
            ("numpy", "dtype"): np.dtype,
        }
        if (module, name) not in allowed:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return allowed[module, name]


def _read_pickle(path: Path) -> tuple[Pixels, npt.NDArray[np.int64]]:
    """Read a dictionary pickled by Python 2: ``data``, uint8, shape ``(N, 3072)``, and ``labels``."""
    try:
        with path.open("rb") as file:
            found = _ArraysOnly(file, encoding="bytes").load()
        pixels, labels = np.asarray(found[b"data"]), np.asarray(found[b"labels"], np.int64)
        if pixels.dtype != np.uint8 or pixels.shape != (len(labels), 3072):
            raise ValueError(f"data {pixels.dtype} {pixels.shape} for {len(labels)} labels")
    except Exception as error:  # a damaged pickle raises anything
        raise DataError(f"{path}: not a batch of CIFAR-10 ({one_line(error)})") from None
    return pixels, labels


CIFAR10 = NamedSet(_read, (3, 32, 32), "uoft-cs/cifar10")
