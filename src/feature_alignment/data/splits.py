"""Which images are for training and which are held out: one rule for folders, archives and the Hub."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from .errors import DataError

__all__ = ["HELD_OUT", "TEST_NAMES", "TRAIN_NAMES", "Split", "held_out", "is_split", "normalised", "splits_among"]

Split: TypeAlias = Literal["train", "test"]

#: Names of the training split, in any case.
TRAIN_NAMES = ("train", "training")

#: Names of the held-out split beside it, in any case, in order of preference.
TEST_NAMES = ("test", "testing", "validation", "valid", "val")

#: Every ``HELD_OUT``-th image of a set without a split of its own is held out.
HELD_OUT = 10


def normalised(name: str) -> str:
    """Return a name in Unicode's composed form (NFC), so that the names from all file systems compare equal."""
    return unicodedata.normalize("NFC", name)


def is_split(name: str) -> bool:
    """Whether a folder of this name, in any case, is a split: one of ``TRAIN_NAMES`` and ``TEST_NAMES``.

    Example:
        >>> is_split("Train"), is_split("trains")
        (True, False)
    """
    return normalised(name).casefold() in TRAIN_NAMES + TEST_NAMES


def splits_among(names: Iterable[str]) -> tuple[str | None, list[str]]:
    """Return which of ``names`` is the training split, if any, and which may be held out, the preferred one first.

    Raises:
        DataError: two of them could be the same split, such as ``train`` and ``Train``.

    Example:
        >>> splits_among(["Val", "extra", "train"])
        ('train', ['Val'])
    """
    known: dict[str, str] = {}
    for name in names:
        word = normalised(name).casefold()
        word = "train" if word in TRAIN_NAMES else word
        if word in known and is_split(name):
            raise DataError(f"{known[word]} and {name} could both be the split {word}; rename one of them")
        known[word] = name
    return known.get("train"), [known[word] for word in TEST_NAMES if word in known]


def held_out(count: int) -> npt.NDArray[np.bool_]:
    """Mark every tenth of ``count`` ordered images, or the last one of fewer.

    Example:
        >>> held_out(3)
        array([False, False,  True])
    """
    marks: npt.NDArray[np.bool_] = np.arange(count) % HELD_OUT == HELD_OUT - 1
    marks[-1:] |= not marks.any()
    return marks
