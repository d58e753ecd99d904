"""The named data sets, one file each.

To add one, write a file that defines a :class:`NamedSet` and list it in :data:`DATA_SETS`; copy ``stl10.py``.
"""

from __future__ import annotations

from pathlib import Path

from ...extras import MissingExtra
from ..cache import Decoded, Meta, cached
from ..errors import DataError
from ..findings import Findings
from ..request import Request
from ..resizing import fit
from ..splits import Split
from .celeba import CELEBA
from .cifar10 import CIFAR10
from .fashion_mnist import FASHION_MNIST
from .mnist import MNIST
from .mnist_mini import MNIST_MINI
from .named_set import FilesMissing, NamedSet
from .stl10 import STL10

__all__ = ["DATA_SETS", "FilesMissing", "NamedSet", "load_named"]

#: The named data sets.
DATA_SETS: dict[str, NamedSet] = {
    "mnist-mini": MNIST_MINI,
    "mnist": MNIST,
    "fashion-mnist": FASHION_MNIST,
    "cifar10": CIFAR10,
    "stl10": STL10,
    "celeba": CELEBA,
}


def load_named(name: str, request: Request) -> Decoded:
    """Decode a split of a set in :data:`DATA_SETS`, or take it from the cache.

    Raises:
        DataError: its files are damaged, or neither on this machine nor on the Hub.
    """
    split = request.split
    found = cached(f"{name}-{split}", lambda directory: _read(DATA_SETS[name], split, directory))
    own = found.pixels.shape
    shape = (request.channels or own[1], request.image_size or own[2], request.image_size or own[3])
    if shape == own[1:]:
        return found
    return cached(f"{name}-{split}-{'x'.join(map(str, shape))}", lambda directory: fit(directory, found, shape))


def _read(chosen: NamedSet, split: Split, directory: Path) -> Meta:
    try:
        return chosen.read(split, directory)
    except FilesMissing as error:
        if chosen.hub is None:
            raise
        return _from_hub(chosen.hub, chosen.shape, split, directory, error)


def _from_hub(repository: str, shape: tuple[int, int, int], split: Split, directory: Path, files: FilesMissing) -> Meta:
    request = Request(split, image_size=shape[1], channels=shape[0], strict=True)
    try:
        from ..hub import decode_hub

        return decode_hub(directory, repository, request, Findings())
    except (DataError, MissingExtra) as error:
        raise DataError(f"{files.missing}, and {error}; {files.advice}") from None
