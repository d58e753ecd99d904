"""Where the commands write, checked before any computation."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from .errors import UsageError

__all__ = [
    "PICTURES",
    "beside",
    "fitted_images",
    "free_name",
    "names_taken",
    "refuse_overwriting",
    "refuse_within",
    "removed_if_empty",
    "writable",
    "writable_folder",
]

#: The endings of pictures, the usual one first.
PICTURES = (".png", ".jpg", ".jpeg", ".pdf", ".svg", ".tif", ".tiff", ".webp")


def beside(name: str, file: str) -> Path:
    """Return where a command writes ``file`` by default: into the run's directory; for a model of the Hub, here.

    Example:
        >>> str(beside("owner/name", "sample.png")), beside(str(folder), "sample.png") == folder / "sample.png"
        ('name-sample.png', True)
    """
    return Path(name) / file if Path(name).is_dir() else Path(f"{name.rpartition('/')[2]}-{file}")


def writable(name: str | Path, endings: Sequence[str] = PICTURES, *, folder: bool = False) -> Path:
    """Return the path of an output, after a check that it can be written.

    Args:
        name: as given to ``--out``.
        endings: of a file, the usual one first.
        folder: whether a folder will do; a name that ends in ``/`` then becomes one.

    Raises:
        UsageError: another ending, a folder where a file is wanted, or no directory to write to.
    """
    path, expected = Path(name), f"expected a name ending in {', '.join(endings)}"
    if path.is_dir() or str(name).endswith("/"):
        if not folder:
            raise UsageError(f"--out {path}: is a folder; {expected}")
        return writable_folder("--out", path)
    if not path.parent.is_dir():
        raise UsageError(f"--out {path}: there is no directory {path.parent}")
    if path.suffix.lower() not in endings:
        raise UsageError(f"--out {path}: {expected}{', or a folder' if folder else ''}")
    _try(f"--out {path}", path.parent)
    return path


def writable_folder(option: str, name: str | Path) -> Path:
    """Return the path of a folder, which is created if it is missing, after a check that files can be written to it.

    Raises:
        UsageError: it is a file, or cannot be written to.
    """
    folder = Path(name)
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{option} {folder}: is a file, expected a folder")
    _try(f"{option} {folder}", folder)
    return folder


def _try(what: str, folder: Path) -> None:
    """Write a file without a name: permissions alone do not tell of read-only file systems, or of Windows."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UsageError(f"{what}: nothing can be written to {folder} ({error.strerror or error})") from None


def names_taken(folder: Path) -> set[str]:
    """Return the names of all that a folder contains, without case, which some file systems ignore."""
    return {path.name.casefold() for path in folder.iterdir()}


def free_name(stem: str, taken: Iterable[str]) -> str:
    """Return the name of a picture that is not taken: ``stem.png``, otherwise the first of ``stem-2.png``, ...

    Example:
        >>> free_name("Cat", {"cat.png", "cat-2.png"})
        'Cat-3.png'
    """
    name, number = f"{stem}.png", 2
    while name.casefold() in taken:
        name, number = f"{stem}-{number}.png", number + 1
    return name


def refuse_within(option: str, folder: str | Path, inputs: Iterable[str | Path]) -> None:
    """Refuse to write pictures into a folder of images that are read, where the next call would read them.

    Args:
        option: that names the folder, such as ``--out``.
        folder: it may not exist yet.
        inputs: files and folders that are read.

    Raises:
        UsageError: the folder is one of the inputs, or in one.
    """
    place = Path(folder).resolve()
    if place.is_file():
        return  # refused as such
    for each in inputs:
        root = Path(each).resolve()
        if root.is_dir() and root in (place, *place.parents):
            from ..data.formats import HIDDEN, reason_to_skip  # imports PIL

            if reason_to_skip((place.relative_to(root) / "a.png").as_posix()) == HIDDEN:
                continue  # not looked into
            raise UsageError(
                f"{option} {folder}: is in {each}, where the next call would read what is written as images; choose "
                "another folder"
            )


def fitted_images(variables: str) -> list[str]:
    """Return the folder of images that ``--variables`` names, to which they are fitted, if it names one."""
    folder = Path(variables)
    if not folder.is_dir() or (folder / "config.json").is_file():
        return []
    from ..core.inversion import VARIABLES  # imports torch

    return [] if variables in VARIABLES else [variables]


@contextmanager
def removed_if_empty(name: str | Path) -> Iterator[None]:
    """Remove a folder that is made meanwhile, with those around it, if an error leaves it empty."""
    missing = [each for each in (Path(name), *Path(name).parents) if not each.exists()]
    try:
        yield
    except BaseException:
        for folder in missing:
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()
        raise


def refuse_overwriting(option: str, place: Path, outputs: Iterable[Path], inputs: Iterable[str | Path]) -> None:
    """Refuse to write over a file that is read.

    Args:
        option: that names the place, such as ``--out``.
        place: the file or folder it names.
        outputs: the files that will be written.
        inputs: the files that are read.

    Raises:
        UsageError: an output is an input.
    """
    read = {Path(each).resolve() for each in inputs}
    for each in outputs:
        if each.resolve() in read:
            another = "folder" if place.is_dir() else "name"
            raise UsageError(f"{option} {place}: would overwrite {each}; choose another {another}")
