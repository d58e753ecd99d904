"""MNIST: digits, 60,000 and 10,000."""

from __future__ import annotations

from pathlib import Path

from ..cache import Meta, data_directory
from ..splits import Split
from .idx import idx_files, store_idx
from .named_set import FilesMissing, NamedSet

__all__ = ["DIGITS", "MNIST"]

DIGITS = tuple("0123456789")


def _read(split: Split, directory: Path) -> Meta:
    folder = data_directory() / "mnist"
    if files := idx_files(folder, split):
        return store_idx(directory, files, DIGITS)
    raise FilesMissing(
        f"mnist: no train-images-idx3-ubyte and its three siblings (or .gz) in {folder}",
        "put them there, from https://ossci-datasets.s3.amazonaws.com/mnist/",
    )


MNIST = NamedSet(_read, (1, 28, 28), "ylecun/mnist")
