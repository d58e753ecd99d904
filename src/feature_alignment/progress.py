"""Progress bars."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

__all__ = ["progress"]

T = TypeVar("T")


def progress(items: Iterable[T], doing: str, total: int | None = None) -> Iterable[T]:
    """Iterate over ``items`` with a progress bar that appears after a second; without tqdm there is no bar.

    Args:
        items: any iterable.
        doing: description shown beside the bar.
        total: number of items; by default their ``len``, if they have one.
    """
    try:
        from tqdm import tqdm
    except ModuleNotFoundError:
        return items
    bar: Iterable[T] = tqdm(items, desc=doing, total=total, delay=1)
    return bar
