"""Atomic writing, so that a file has its old or its new content even if the process is killed; and reading YAML."""

from __future__ import annotations

import os
import re
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from .extras import require

__all__ = [
    "MOST_VALUES",
    "atomic_path",
    "locked",
    "naming",
    "portable",
    "read_yaml",
    "remove_unfinished",
    "user_path",
    "write_atomically",
]

#: A YAML file of more bytes, or more values, is not read: aliases of aliases make billions of a few lines.
MOST_BYTES = 2**16
MOST_VALUES = 100_000


@contextmanager
def naming(path: str | Path, scratch: Path | None = None) -> Iterator[None]:
    """Name ``path`` in an OSError of the block that names no file, such as that of a write to a full disk, or scratch.

    Args:
        path: the file that the user knows.
        scratch: the temporary file that is written in its place.

    Example:
        >>> with naming("log.csv"):
        ...     raise OSError(28, "No space left on device")
        Traceback (most recent call last):
        ...
        OSError: [Errno 28] No space left on device: 'log.csv'
    """
    try:
        yield
    except OSError as error:
        if error.errno is not None and (error.filename is None or str(error.filename) == str(scratch)):
            error.filename = str(path)
            del error.filename2
        raise


def user_path(name: str | Path) -> Path:
    """Return a path with ``~`` and ``~user`` expanded, where there is such a user; ``~$notes.png`` is a name.

    Example:
        >>> user_path("~nobody-of-this-name.png")
        PosixPath('~nobody-of-this-name.png')
    """
    return Path(os.path.expanduser(name))  # noqa: PTH111 (pathlib's own raises an error where there is no such user)


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
    scratch = place.with_name(f".{place.name[:40]}-{uuid.uuid4().hex[:8]}.part")  # a name has at most 255 bytes
    try:
        with naming(place, scratch):
            yield scratch
            with scratch.open("rb+") as file:
                os.fsync(file.fileno())  # otherwise a power failure could leave an empty file under the new name
            scratch.replace(place)
    finally:
        with suppress(OSError):  # where it could not be written it may be impossible to look for, too
            scratch.unlink()


def write_atomically(path: str | Path, content: str | bytes | memoryview) -> None:
    """Write ``content`` to ``path`` atomically; text as UTF-8, bytes that a file name could not decode as ``\\udcXX``.

    Example:
        >>> write_atomically(folder / "metrics.json", "{}")
        >>> (folder / "metrics.json").read_text()
        '{}'
    """
    with atomic_path(path) as scratch:
        scratch.write_bytes(content.encode(errors="backslashreplace") if isinstance(content, str) else content)


@contextmanager
def locked(path: str | Path, refusal: Exception) -> Iterator[None]:
    """Hold the lock of a file during the block; the file and its directory are created.

    The lock belongs to the process (flock, or its like on Windows): the system releases it however the process ends,
    and a lock file that is left behind locks nothing. It may be taken again within the process.

    Args:
        path: the file, which has no other use.
        refusal: raised if another process holds the lock.

    Example:
        >>> with locked(folder / ".lock", RuntimeError("busy")):
        ...     write_atomically(folder / "metrics.json", "{}")
    """
    filelock: Any = require("filelock", "train", "one writer at a time")
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(path, is_singleton=True)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise refusal from None
    except NotImplementedError:  # a network file system without locks
        directory = Path(path).parent
        warnings.warn(f"{directory}: cannot be locked here; let only one process write into it", stacklevel=3)
        yield
        return
    try:
        yield
    finally:
        lock.release()


def portable(name: str) -> str:
    r"""Return the beginning of a name, in letters that every file system and library takes.

    Example:
        >>> portable("my set\udcff")
        'my_set_'
    """
    return re.sub(r"[^\w.-]", "_", name[:60], flags=re.ASCII)


def remove_unfinished(directory: str | Path) -> None:
    """Remove the temporary files of :func:`atomic_path` that a killed process left in ``directory``.

    Only for a directory that no other process writes to.

    Example:
        >>> (folder / ".metrics.json-0123abcd.part").touch()
        >>> remove_unfinished(folder)
        >>> list(folder.iterdir())
        []
    """
    for path in Path(directory).glob(".*-????????.part"):
        path.unlink(missing_ok=True)


def read_yaml(path: str | Path) -> Any:
    """Read a YAML file of plain values.

    Raises:
        ValueError: it is no YAML, larger than ``MOST_BYTES``, or more than ``MOST_VALUES`` values; in one line.

    Example:
        >>> write_atomically(folder / "config.yaml", "data: {name: mnist}")
        >>> read_yaml(folder / "config.yaml")
        {'data': {'name': 'mnist'}}
    """
    import yaml

    try:
        if (size := Path(path).stat().st_size) > MOST_BYTES:
            raise ValueError(f"{size:,} bytes, expected at most {MOST_BYTES:,}")
        found = yaml.safe_load(Path(path).read_text())
        if _size(found) > MOST_VALUES:
            raise ValueError(f"more than {MOST_VALUES:,} values")
    except OSError:
        raise
    except Exception as error:  # PyYAML's constructors raise anything
        raise ValueError(" ".join(str(error).split())[:300] or type(error).__name__) from None
    return found


def _size(value: Any, most: int = MOST_VALUES) -> int:
    """Return the number of values in nested lists and dictionaries; no more than one above ``most`` are counted."""
    count, waiting = 0, [value]
    while waiting and count <= most:
        count, each = count + 1, waiting.pop()
        if isinstance(each, list | dict):
            waiting.extend([*each, *each.values()] if isinstance(each, dict) else each)
    return count
