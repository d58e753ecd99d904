"""Which images are for training and which are held out: one rule for folders and for the Hub."""

from __future__ import annotations

from collections.abc import Container
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["HELD_OUT", "TEST_NAMES", "Split", "held_out", "held_out_name"]

Split: TypeAlias = Literal["train", "test"]

#: Names of the held-out split beside ``train``, in order of preference.
TEST_NAMES = ("test", "validation", "valid", "val")

#: Every ``HELD_OUT``-th image of a set without a split of its own is held out.
HELD_OUT = 10


def held_out_name(names: Container[str], known: tuple[str, ...] = TEST_NAMES) -> str | None:
    """Return which of ``names`` is the held-out split; none if it or ``train`` is missing.

    Example:
        >>> held_out_name(["train", "val", "extra"])
        'val'
    """
    found = [name for name in known if name in names]
    return found[0] if found and "train" in names else None


def held_out(count: int) -> npt.NDArray[np.bool_]:
    """Mark every tenth of ``count`` ordered images, or the last one of fewer.

    Example:
        >>> held_out(3)
        array([False, False,  True])
    """
    marks: npt.NDArray[np.bool_] = np.arange(count) % HELD_OUT == HELD_OUT - 1
    marks[-1:] |= not marks.any()
    return marks
