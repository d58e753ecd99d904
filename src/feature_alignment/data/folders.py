"""Folders of images: one subfolder per class, or no subfolders."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ..files import portable
from .archives import load_archives
from .cache import VERSION, Decoded, cached, hash_of
from .decoding import SIDE, decode
from .errors import DataError
from .findings import Findings
from .formats import HIDDEN, readable, reason_to_skip, starts_as_image
from .layout import Entry, arrange
from .picture import Picture, white_of
from .request import Request
from .shards import ENDINGS

__all__ = ["Listing", "list_folder", "load_folder"]


class Listing(NamedTuple):
    """The images and archives under a folder, by path below it, and a hash that changes when an image does."""

    paths: list[str]
    archives: list[str]
    hash: str


def load_folder(root: Path, request: Request) -> Decoded:
    """Decode a split of the images under ``root``, an absolute path, or take it from the cache.

    Raises:
        DataError: no images, images beside class folders, or a class in ``test`` that is not in ``train``.
    """
    findings = Findings()
    listing = list_folder(root, findings)
    if listing.archives and not listing.paths:
        return load_archives(str(root), [root / path for path in listing.archives], request, root)
    for path in listing.archives:
        findings.skip("archives beside images", path)
    entries = [Entry(path) for path in listing.paths]
    try:
        chosen, labels, classes = arrange(str(root), entries, request.split, findings)
    except DataError as error:
        raise DataError(f"{error}; {findings.line('there')}" if findings.skipped else str(error)) from None
    findings.refuse(str(root), request.strict)
    image_size, channels = request.image_size or SIDE, request.channels or 3
    own = Findings()  # of the images; those of the folder are found anew every time

    def pictures(of: list[Entry]) -> Iterator[Picture]:
        return ((str(root / entry.path), root / entry.path) for entry in of)

    white = white_of(lambda: pictures(entries), own, request.white)
    key = hash_of([VERSION, str(root), request.split, image_size, channels, request.white, listing.hash, *readable()])
    decoded = cached(
        f"folder-{portable(root.name)}-{request.split}-{key}",
        lambda directory: decode(
            directory, str(root), pictures(chosen), labels, classes, image_size, channels, request.strict, white, own
        ),
        keep=lambda: not own.transient,
    )
    return Decoded(decoded.pixels, decoded.labels, decoded.classes, findings + decoded.findings, decoded.white)


def list_folder(root: Path, findings: Findings) -> Listing:
    """List the images under a folder, sorted; links are followed. Whatever is no image is counted."""
    found: list[str] = []
    archives: list[str] = []
    digest = hashlib.sha256()
    for path, status in _files(root, "", (root.stat().st_dev, root.stat().st_ino), (), findings):
        reason = reason_to_skip(path)
        if reason == "":
            reason = None if starts_as_image(root / path) else "no image, and no extension"
        if reason is not None and reason != HIDDEN and path.lower().endswith(ENDINGS):
            archives.append(path)
            continue
        if reason is not None:
            findings.skip(reason, path)
            continue
        found.append(path)
        digest.update(f"{path}\0{status.st_size}\0{status.st_mtime_ns}\0".encode(errors="surrogateescape"))
    return Listing(found, archives, digest.hexdigest())


def _files(
    root: Path, below: str, own: tuple[int, int], above: tuple[tuple[int, int], ...], findings: Findings
) -> Iterator[tuple[str, os.stat_result]]:
    """Yield path and status of every file, in the order of names, folder by folder.

    Args:
        root: the set's folder.
        below: path of the folder to list, below ``root``; it ends in ``/`` unless it is empty.
        own: device and inode of that folder.
        above: those of the folders that contain it, to which links would lead round and round.
        findings: told of what cannot be listed.
    """
    try:
        names = sorted(os.listdir(root / below))  # noqa: PTH208 (names, not paths: sets have millions)
    except OSError as error:
        findings.skip("folders that cannot be opened", f"{below}: {error.strerror}")
        return
    if not names and below:
        findings.skip("empty folders", below)
    for name in names:
        path = below + name
        try:
            status = (root / path).stat()
        except OSError as error:
            findings.skip("links to nothing" if (root / path).is_symlink() else f"no access ({error.strerror})", path)
            continue
        identity = (status.st_dev, status.st_ino)
        if stat.S_ISREG(status.st_mode):
            yield path, status
        elif not stat.S_ISDIR(status.st_mode):
            findings.skip("neither files nor folders", path)
        elif reason_to_skip(path) == HIDDEN:
            findings.skip(HIDDEN, path + "/")
        elif identity in (own, *above):
            findings.skip("links to a folder that contains them", path)
        else:
            yield from _files(root, path + "/", identity, (own, *above), findings)
