"""Without this folder every result is the same, only slower."""

from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["enabled", "switched"]

_on = True


def enabled() -> bool:
    """Whether the tricks of this folder are used."""
    return _on


@contextmanager
def switched(on: bool) -> Iterator[None]:
    """Use the tricks of this folder, or do without, for as long as it lasts."""
    global _on
    before, _on = _on, on
    try:
        yield
    finally:
        _on = before
