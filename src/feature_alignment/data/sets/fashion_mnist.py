"""Fashion-MNIST: clothes, 60,000 and 10,000."""

from __future__ import annotations

from pathlib import Path

from ..cache import Meta, data_directory
from ..splits import Split
from .idx import idx_files, store_idx
from .named_set import FilesMissing, NamedSet

__all__ = ["DEBIAN", "FASHION_MNIST"]

CLASSES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip

#: Where the Debian package dataset-fashion-mnist puts its files.
DEBIAN = Path("/usr/share/datasets/fashion-mnist")


def _read(split: Split, directory: Path) -> Meta:
    folder = data_directory() / "fashion-mnist"
    if files := idx_files(folder, split) or idx_files(DEBIAN, split):
        return store_idx(directory, files, CLASSES)
    raise FilesMissing(
        f"fashion-mnist: no train-images-idx3-ubyte and its three siblings (or .gz) in {folder} or {DEBIAN}",
        "install the Debian package dataset-fashion-mnist, or put the files there",
    )


FASHION_MNIST = NamedSet(_read, (1, 28, 28), "zalando-datasets/fashion_mnist")
