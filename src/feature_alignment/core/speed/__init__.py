"""Without this folder every result is the same, only slower. One switch for all of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["enabled", "switched"]

_on = os.environ.get("FALIGN_SPEED", "1") != "0"


def enabled() -> bool:
    """Whether the optimisations of this folder are used: yes, unless ``FALIGN_SPEED=0`` was set at import."""
    return _on


@contextmanager
def switched(on: bool) -> Iterator[None]:
    """Turn the optimisations on or off for the ``with`` block, in all threads.

    Example:
        >>> with switched(False):
        ...     enabled()
        False
    """
    global _on
    before, _on = _on, on
    try:
        yield
    finally:
        _on = before
