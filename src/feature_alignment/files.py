"""Atomic writing: a file has its old or its new content, even if the process is killed while writing."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["atomic_path", "write_atomically"]


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield the path of a temporary file, which is renamed to ``path`` when the block ends without an error.

    For libraries that write files themselves; for text and bytes see :func:`write_atomically`. The directory is
    created if it is missing. After an error the temporary file is removed and ``path`` is unchanged.

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
            os.fsync(file.fileno())  # otherwise a power failure could leave an empty file under the new name
        scratch.replace(place)
    finally:
        scratch.unlink(missing_ok=True)


def write_atomically(path: str | Path, content: str | bytes) -> None:
    """Write ``content``, text as UTF-8, to ``path`` atomically.

    Example:
        >>> write_atomically(folder / "metrics.json", "{}")
        >>> (folder / "metrics.json").read_text()
        '{}'
    """
    with atomic_path(path) as scratch:
        scratch.write_bytes(content.encode() if isinstance(content, str) else content)
