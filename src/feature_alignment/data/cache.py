"""The cache of decoded data sets: every set is decoded once, into memory-mapped files.

A set is a directory under :func:`cache_directory` with ``images.npy``, uint8, shape ``(N, C, H, W)``; ``labels.npy``
where there are classes; and ``meta.json``, which is written last.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..files import user_path
from .errors import DataError, one_line
from .findings import Findings
from .images import Pixels

__all__ = [
    "VERSION", "Decoded", "Meta", "cache_directory", "cached", "data_directory", "hash_of", "listing",
    "memory_map", "save_labels", "store",
]  # fmt: skip

#: Of the way folders, archives and sets of the Hub are decoded: what an earlier one has cached is not used.
VERSION = 4

#: Of a decoded set: ``count``, the number of images; ``classes``, their names; ``findings``, what was skipped;
#: ``white``, the values of white in images of more than 8 bits.
Meta: TypeAlias = dict[str, Any]


@dataclass(frozen=True)
class Decoded:
    """A split in the cache.

    Attributes:
        pixels: uint8, shape ``(N, C, H, W)``.
        labels: int64, shape ``(N,)``, or none.
        classes: their names.
        findings: what was skipped, and notes.
        white: the values of white in images of more than 8 bits, see :class:`.white.White`.
    """

    pixels: Tensor
    labels: Tensor | None
    classes: tuple[str, ...]
    findings: Findings = field(default_factory=Findings)
    white: dict[str, float] = field(default_factory=dict)


def cache_directory() -> Path:
    """Return ``$FALIGN_CACHE``, or ``feature-alignment`` in the user's cache directory."""
    if found := os.environ.get("FALIGN_CACHE"):
        return user_path(found)
    return user_path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "feature-alignment"


def data_directory() -> Path:
    """Return where the files of named data sets are looked for: ``$FALIGN_DATA``, or ``data`` in the cache."""
    return user_path(os.environ.get("FALIGN_DATA") or cache_directory() / "data")


def cached(name: str, build: Callable[[Path], Meta], keep: Callable[[], bool] = lambda: True) -> Decoded:
    """Return the set cached under ``name``; build it if it is missing or damaged.

    It is built in a temporary directory that is renamed when complete, so that neither a killed process, a power
    failure nor two processes that build at once leave an incomplete set behind.

    Args:
        name: of its directory.
        build: decodes the set into the directory passed to it and returns its :data:`Meta`.
        keep: whether to keep the set in the cache, asked when it is complete.
    """
    place = cache_directory() / name
    if place.is_dir():
        try:
            return _open(place)
        except Exception as error:  # NumPy's reader of damaged files raises anything
            if isinstance(error, OSError | MemoryError) and not isinstance(error, FileNotFoundError):
                raise
            warnings.warn(f"{place}: damaged ({type(error).__name__}: {one_line(error)}), built anew", stacklevel=2)
            _discard(place)
    place.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=place.parent))
    try:
        meta = build(scratch)
        (scratch / "meta.json").write_text(json.dumps(meta))
        # If the set is not kept, the open mapping remains valid after its files are unlinked.
        return _open(_in_place(scratch, place) if keep() else scratch)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _discard(place: Path) -> None:
    """Remove a damaged set; it is moved away first, so that no other process meets a part of it."""
    with tempfile.TemporaryDirectory(prefix=f".{place.name}-", dir=place.parent) as away, suppress(FileNotFoundError):
        place.rename(Path(away) / place.name)  # not found: another process was first


def _in_place(scratch: Path, place: Path) -> Path:
    for path in scratch.iterdir():
        with path.open("rb+") as file:
            os.fsync(file.fileno())  # otherwise a power failure could leave empty files under the new name
    try:
        scratch.rename(place)
    except OSError:  # another process was first
        if not (place / "meta.json").is_file():
            raise
    return place


def _open(place: Path) -> Decoded:
    meta = json.loads((place / "meta.json").read_text())
    pixels = _mapped(place / "images.npy")[: meta["count"]]
    labels = torch.from_numpy(np.load(place / "labels.npy"))[: meta["count"]] if meta["classes"] else None
    return Decoded(pixels, labels, tuple(meta["classes"]), Findings(meta.get("findings")), meta.get("white", {}))


def _mapped(path: Path) -> Tensor:
    try:  # copy on write: torch wants writable memory, the file must not change
        return torch.from_numpy(np.load(path, mmap_mode="c"))
    except OSError:  # a set larger than the memory could not all be copied, so the system refuses
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*not writable")
            return torch.from_numpy(np.load(path, mmap_mode="r"))


def memory_map(directory: Path, shape: tuple[int, ...]) -> Pixels:
    """Return a memory-mapped uint8 array for the pixels of a set, which may be larger than the memory.

    Raises:
        DataError: there is not enough space on the disk.
    """
    needed, free = int(np.prod(shape)), shutil.disk_usage(directory).free
    # Writing to a mapping on a full disk would kill the process (SIGBUS), so the space is taken at once, as far as the
    # system can: another process may be writing too.
    if needed <= free:
        path = directory / "images.npy"
        mapped: Pixels = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
        if _reserved(path):
            return mapped
        free = shutil.disk_usage(directory).free
    raise DataError(
        f"{directory.parent}: {shape[0]} images of {' x '.join(map(str, shape[1:]))} need {needed / 1e9:.3f} GB, "
        f"{free / 1e9:.3f} GB are free; set FALIGN_CACHE to a larger place, or a smaller image_size"
    )


def _reserved(path: Path) -> bool:
    """Allocate the blocks of a file, and say whether there are enough."""
    with path.open("rb+") as file:
        try:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
        except OSError as error:
            return error.errno not in (errno.ENOSPC, errno.EDQUOT)  # others: the file system cannot do this
    return True


def save_labels(directory: Path, labels: npt.ArrayLike) -> None:
    """Write the labels of a set, int64, shape ``(N,)``."""
    content = io.BytesIO()  # NumPy's own writer says of a full disk neither that nor where
    np.save(content, np.asarray(labels, np.int64))
    (directory / "labels.npy").write_bytes(content.getbuffer())


def store(directory: Path, source: str, pixels: Pixels, labels: npt.NDArray[np.int64], classes: Sequence[str]) -> Meta:
    """Write a set that is held in arrays.

    Args:
        directory: to write to.
        source: name of the set in error messages.
        pixels: uint8, shape ``(N, C, H, W)``.
        labels: in ``0 .. len(classes) - 1``, shape ``(N,)``.
        classes: their names.

    Raises:
        DataError: the numbers of labels and images differ or are zero, or a label is out of range.
    """
    if not 0 < len(pixels) == len(labels):
        raise DataError(f"{source}: {len(pixels)} images and {len(labels)} labels, expected as many of both")
    if labels.min() < 0 or labels.max() >= len(classes):
        raise DataError(
            f"{source}: labels from {labels.min()} to {labels.max()}, expected 0 to {len(classes) - 1} after the "
            "format's own offset"
        )
    memory_map(directory, pixels.shape)[:] = pixels
    save_labels(directory, labels)
    return {"count": len(pixels), "classes": list(classes)}


def listing(root: Path, files: Iterable[Path]) -> list[tuple[str, int, int]]:
    """Return name, size and modification time of the files under ``root``, which change when the folder does."""
    return sorted((str(file.relative_to(root)), file.stat().st_size, file.stat().st_mtime_ns) for file in files)


def hash_of(key: Any) -> str:
    """Return a hash of ``key``, any JSON value, as 16 hexadecimal digits."""
    return hashlib.sha256(json.dumps(key).encode()).hexdigest()[:16]
