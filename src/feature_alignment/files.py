"""Writing files so that a reader, or a process killed half-way, never sees half of one."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["atomic_path", "write_atomically"]


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Give a scratch file's path to write to, which becomes ``path`` when the block ends without an error.

    For what a library writes by itself; for text and bytes there is :func:`write_atomically`. The folder is made
    if need be. After an error the scratch file is removed and ``path`` is what it was.

    Example:
        >>> with atomic_path(folder / "model.pt") as scratch:
        ...     torch.save({"steps": 3}, scratch)
    """
    place = Path(path)
    place.parent.mkdir(parents=True, exist_ok=True)
    scratch = place.with_name(f".{place.name}-{uuid.uuid4().hex[:8]}.part")
    try:
        yield scratch
        with scratch.open("rb+") as file:
            os.fsync(file.fileno())  # or a power cut could leave the new name with no content
        scratch.replace(place)
    finally:
        scratch.unlink(missing_ok=True)


def write_atomically(path: str | Path, content: str | bytes) -> None:
    """Write ``content``, text as UTF-8, to ``path``: whole or not at all.

    Example:
        >>> write_atomically(folder / "metrics.json", "{}")
        >>> (folder / "metrics.json").read_text()
        '{}'
    """
    with atomic_path(path) as scratch:
        scratch.write_bytes(content.encode() if isinstance(content, str) else content)
