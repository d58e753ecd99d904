"""Progress bars."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

__all__ = ["progress"]

T = TypeVar("T")


def progress(items: Iterable[T], doing: str, total: int | None = None) -> Iterable[T]:
    """Iterate over ``items`` behind a bar that appears after a second; without tqdm there is none.

    Args:
        items: anything.
        doing: what the bar says.
        total: how many there are; by default their ``len``, where they have one.
    """
    try:
        from tqdm import tqdm
    except ModuleNotFoundError:
        return items
    bar: Iterable[T] = tqdm(items, desc=doing, total=total, delay=1)
    return bar
