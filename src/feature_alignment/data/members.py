"""The members of a zip or tar archive, read in place: nothing is extracted to the disk."""

from __future__ import annotations

import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from . import compressed
from .compressed import EXPANSION, opener_of, unpacked
from .errors import DataError, UnreadableImage, one_line
from .findings import Findings

__all__ = ["MOST_BYTES", "MOST_TEXT", "Content", "Member", "members_of", "read_members"]

#: A larger member is not read.
MOST_BYTES = 2**28

#: Up to this size a member may be compressed by any factor: drawings in one colour are.
MOST_FLAT = 2**24

#: A larger file with a label is not read: it is a number or a few lines of JSON.
MOST_TEXT = 2**20

#: Exceptions for a damaged archive or member. RuntimeError: it is encrypted.
DAMAGED = (*compressed.DAMAGED, RuntimeError, zipfile.BadZipFile, tarfile.TarError)

#: The bytes of a member, or why it has none.
Content: TypeAlias = bytes | UnreadableImage


class Member(NamedTuple):
    """A file in an archive: its path there, its size, where its bytes are, and what reads them before the next one."""

    path: str
    size: int
    place: Any
    read: Callable[[], Content]


def members_of(archive: Path, findings: Findings) -> Iterator[Member]:
    """Yield the files in an archive, in its order; what is no file, or too large, is counted.

    Raises:
        DataError: the archive is damaged.
    """
    try:
        yield from _zip(archive, findings) if _is_zip(archive) else _tar(archive, findings)
    except DAMAGED as error:
        raise DataError(f"{archive}: not a readable archive ({one_line(error)})") from None


def read_members(archive: Path, places: list[Any]) -> Iterator[Content]:
    """Yield the contents of members, given by place in the archive's order."""
    if _is_zip(archive):
        with zipfile.ZipFile(archive) as opened:
            for name in places:
                yield _attempt(name, lambda name=name: _bounded(opened, opened.getinfo(name)))  # type: ignore[misc]
    elif opener_of(archive) is None:
        with archive.open("rb") as file:
            for offset, size in places:
                file.seek(offset)
                yield file.read(size)
    else:
        yield from _streamed(archive, [number for number, _ in places])


def _streamed(archive: Path, numbers: list[int]) -> Iterator[Content]:
    """Yield the members of a compressed tar by number: their bytes have no address, so all have to be passed."""
    wanted = iter(numbers)
    following = next(wanted, None)
    with _open_tar(archive) as stream:
        for number, member in enumerate(stream):
            if following is None:
                return
            if number == following:
                yield _attempt(member.name, lambda member=member: _content(stream, member))  # type: ignore[misc]
                following = next(wanted, None)
            stream.members = []  # type: ignore[attr-defined]


def _is_zip(archive: Path) -> bool:
    return archive.suffix.lower() == ".zip"


def _zip(archive: Path, findings: Findings) -> Iterator[Member]:
    with zipfile.ZipFile(archive) as opened:
        for info in opened.infolist():
            name = info.filename
            if info.file_size > MOST_BYTES:
                findings.skip(f"larger than {MOST_BYTES >> 20} MiB", name)
            elif info.file_size > MOST_FLAT + EXPANSION * info.compress_size:
                findings.skip(f"unpacks to more than {EXPANSION} times its size", name)
            elif not info.is_dir():
                read = lambda info=info: _attempt(info.filename, lambda: _bounded(opened, info))  # noqa: E731
                yield Member(name, info.file_size, name, read)


def _bounded(opened: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    """Read a member, but no more than it says to have: its header may lie."""
    with opened.open(info) as file:
        return file.read(info.file_size)


def _tar(archive: Path, findings: Findings) -> Iterator[Member]:
    """Yield the files in a tar; their place is offset and size, or their number and none if it is compressed."""
    plain = opener_of(archive) is None
    with _open_tar(archive) as opened:
        for number, member in enumerate(opened):
            if member.isdir():
                continue
            if not member.isreg() or member.issparse():
                findings.skip("links and special files in an archive", member.name)
            elif member.size > MOST_BYTES:
                findings.skip(f"larger than {MOST_BYTES >> 20} MiB", member.name)
            else:
                read = lambda member=member: _attempt(member.name, lambda: _content(opened, member))  # noqa: E731
                place = (member.offset_data, member.size) if plain else (number, None)
                yield Member(member.name, member.size, place, read)
            opened.members = []  # type: ignore[attr-defined]  # they are kept otherwise, half a kilobyte each
        _check_end(archive, opened)


def _check_end(archive: Path, opened: tarfile.TarFile) -> None:
    """Raise a ReadError unless a tar ends where its members do: tarfile takes a damaged header for the end."""
    opener = opener_of(archive)
    if opener is None:
        with archive.open("rb") as file:
            file.seek(opened.offset)
            block = file.read(tarfile.BLOCKSIZE)
            if block.strip(b"\0"):
                raise tarfile.ReadError(f"no header at byte {opened.offset:,}")
            if len(block) < tarfile.BLOCKSIZE:  # of zeros, which says that it is the end
                raise tarfile.ReadError(f"it stops at byte {opened.offset:,} without an end, as if cut off")
        return
    with closing(unpacked(archive, opener)) as stream:
        while stream.read(2**20):  # to the end, where the checksum is
            pass


def _open_tar(archive: Path) -> tarfile.TarFile:
    opener = opener_of(archive)
    if opener is None:
        return tarfile.open(archive, "r:")
    return tarfile.open(fileobj=unpacked(archive, opener), mode="r|")  # type: ignore[call-overload, no-any-return]


def _content(opened: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = opened.extractfile(member)
    return file.read() if file else b""


def _attempt(name: str, read: Callable[[], bytes]) -> Content:
    try:
        return read()
    except DAMAGED as error:
        return UnreadableImage(name, one_line(error), "damaged in the archive")
