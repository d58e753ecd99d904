"""Archives by name: a zip or tar, the shards ``shard-{000..009}.tar``, or a folder of them."""

from __future__ import annotations

import re
from pathlib import Path

from ..files import user_path
from .errors import DataError

__all__ = ["ENDINGS", "is_archive", "shards_of", "stem"]

#: Endings of the archives that are read.
ENDINGS = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")

_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")


def is_archive(name: str) -> bool:
    """Whether a data set of this name is an archive, or shards of one; it need not exist.

    Example:
        >>> is_archive("~/flowers.tar.gz"), is_archive("a/shard-{000..009}.tar"), is_archive("flowers")
        (True, True, False)
    """
    path = user_path(name)
    return not path.is_dir() and name.lower().endswith(ENDINGS)


def stem(archive: Path) -> str:
    """Return the name of an archive without its ending.

    Example:
        >>> stem(Path("birds/wren.tar.gz"))
        'wren'
    """
    ending = max((each for each in ENDINGS if archive.name.lower().endswith(each)), key=len, default="")
    return archive.name[: len(archive.name) - len(ending)]


def shards_of(name: str) -> list[Path]:
    """Return the archives that a name with ranges in braces stands for.

    Raises:
        DataError: one of them does not exist.
    """
    paths = [user_path(each).resolve() for each in _expanded(name)]
    missing = [path for path in paths if not path.is_file()]
    if missing:
        of = f", and {len(missing) - 1} more of {len(paths)}" if len(missing) > 1 else ""
        raise DataError(f"data set {name!r}: no file {missing[0]}{of}")
    return paths


def _expanded(name: str) -> list[str]:
    """Return all names that ``a{08..10}b`` stands for: a08b, a09b, a10b."""
    found = _RANGE.search(name)
    if not found:
        return [name]
    first, last = found.groups()
    if len(range(int(first), int(last) + 1)) not in range(1, 1_000_001):
        raise DataError(f"data set {name!r}: expected a range of 1 to 1,000,000 shards, got {found[0]}")
    numbers = (str(number).zfill(len(first)) for number in range(int(first), int(last) + 1))
    return [each for number in numbers for each in _expanded(name.replace(found[0], number, 1))]
