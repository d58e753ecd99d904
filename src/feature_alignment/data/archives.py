"""Archives of images, and webdataset shards: read in place, sorted into splits and classes as folders are."""

from __future__ import annotations

import io
import json
import posixpath
import re
from collections.abc import Iterator, Sequence
from itertools import chain, groupby
from pathlib import Path
from typing import Any

from ..files import portable
from .cache import VERSION, Decoded, Meta, cached, hash_of
from .class_archives import with_classes
from .decoding import SIDE, decode
from .errors import DataError
from .findings import Findings
from .formats import HIDDEN, readable, reason_to_skip, starts_as_image
from .layout import Entry, arrange
from .members import MOST_TEXT, Member, members_of, read_members
from .picture import Picture, white_of
from .request import Request
from .splits import is_split, normalised

__all__ = ["load_archives"]

#: Endings of files with the label of the image that has the same name: its text, or one of LABEL_KEYS.
LABEL_ENDINGS = (".cls", ".json")
LABEL_KEYS = ("label", "cls", "class")


def load_archives(title: str, archives: Sequence[Path], request: Request, root: Path | None = None) -> Decoded:
    """Decode a split of the images in one or several archives, or take it from the cache.

    Args:
        title: name of the set in messages.
        archives: zip or tar files; their names or folders may state the split, ``train-000.tar``.
        request: split, size, channels.
        root: the folder whose archives these are, if they were named by it: what it has between itself and an archive
            then are splits and classes.

    Raises:
        DataError: a damaged archive, no images, or folders in it that :func:`.layout.arrange` refuses.
    """
    findings = Findings()
    states = [(str(path), (status := path.stat()).st_size, status.st_mtime_ns) for path in archives]
    key = hash_of(
        [VERSION, str(root), request.split, request.image_size, request.channels, request.white, states, *readable()]
    )
    return cached(
        f"archive-{portable(archives[0].name)}-{request.split}-{key}",
        lambda directory: _decode(directory, title, archives, root, request, findings),
        keep=lambda: not findings.transient,
    )


def _decode(
    directory: Path, title: str, archives: Sequence[Path], root: Path | None, request: Request, findings: Findings
) -> Meta:
    folders = [_folders_of(path, root, len(archives)) for path in archives]
    inside = [_entries(path, number, folders[number], findings) for number, path in enumerate(archives)]
    entries = with_classes(archives, folders, inside, findings) if root else list(chain.from_iterable(inside))
    entries.sort(key=lambda entry: entry.path.replace("/", "\0"))
    try:
        chosen, labels, classes = arrange(title, entries, request.split, findings)
    except DataError as error:
        raise DataError(f"{error}; {findings.line('there')}" if findings.skipped else str(error)) from None
    findings.refuse(title, request.strict)
    order = sorted(range(len(chosen)), key=lambda index: chosen[index].place[:2])  # as they lie in the archives
    entries.sort(key=lambda entry: entry.place[:2])
    white = white_of(lambda: _pictures(archives, entries), findings, request.white)
    return decode(
        directory,
        title,
        _pictures(archives, [chosen[index] for index in order]),
        [labels[index] for index in order],
        classes,
        request.image_size or SIDE,
        request.channels or 3,
        request.strict,
        white,
        findings,
    )


def _pictures(archives: Sequence[Path], entries: Sequence[Entry]) -> Iterator[Picture]:
    """Yield images in the order of the archives."""
    for number, group in groupby(entries, key=lambda entry: entry.place[0]):
        inside = list(group)
        contents = read_members(archives[number], [entry.place[2] for entry in inside])
        for entry, content in zip(inside, contents, strict=True):
            yield f"{archives[number].name}/{entry.path}", content


def _entries(archive: Path, number: int, folders: str, findings: Findings) -> list[Entry]:
    """Return the images of an archive; ``place`` is the archive's number, the image's number and its member's place."""
    images: list[Entry] = []
    labels: dict[str, str | int] = {}
    stating: dict[str, str] = {}
    for position, member in enumerate(members_of(archive, findings)):
        path = _clean(member.path)
        reason = reason_to_skip(path)
        if reason == "":
            content = member.read()
            found = isinstance(content, bytes) and starts_as_image(io.BytesIO(content))
            reason = None if found else "no image, and no extension"
        if reason is None:
            images.append(Entry(folders + path, None, (number, position, member.place)))
        elif reason != HIDDEN and (label := _label_in(member, path)) is not None:
            labels[_sample(path)] = label
            stating[_sample(path)] = path
        else:
            findings.skip(reason, f"{archive.name}/{path}")
    labelled = {_sample(entry.path[len(folders) :]) for entry in images} & labels.keys()
    for sample, path in stating.items():
        if sample not in labelled:
            findings.skip("a label without an image", f"{archive.name}/{path}")
    if not labelled:
        return images
    return [entry._replace(label=labels.get(_sample(entry.path[len(folders) :]))) for entry in images]


def _sample(path: str) -> str:
    """Return what the files of one sample share: the path up to the first dot of the name."""
    folder, _, name = path.rpartition("/")
    return f"{folder}/{name.partition('.')[0]}"


def _label_in(member: Member, path: str) -> str | int | None:
    """Return the label that a file beside an image states; none if it states none."""
    if not path.lower().endswith(LABEL_ENDINGS) or member.size > MOST_TEXT:
        return None
    try:
        read = member.read()
        content = read.decode() if isinstance(read, bytes) else ""
        if path.lower().endswith(".cls"):
            stated: Any = content.strip()
        else:
            values = json.loads(content)
            stated = next((values[key] for key in LABEL_KEYS if key in values), None)
    except (ValueError, TypeError, RecursionError):  # not what it seems; it is counted
        return None
    if isinstance(stated, str) and stated:
        return int(stated) if re.fullmatch(r"-?\d{1,18}", stated) else normalised(stated)
    return stated if isinstance(stated, int) and not isinstance(stated, bool) else None


def _clean(path: str) -> str:
    """Return a member's path without ``./``, ``../`` and what else would lead outside; nothing is written there."""
    return posixpath.normpath("/" + path.replace("\\", "/")).lstrip("/")


def _folders_of(archive: Path, root: Path | None, count: int) -> str:
    """Return the folders that a shard stands for: those it lies in, and the split that its name states."""
    if count == 1 and root is None:
        return ""
    folders = "".join(f"{part}/" for part in archive.relative_to(root).parts[:-1]) if root else ""
    words = re.split(r"[^a-z]+", archive.name.lower().partition(".")[0])
    stated = next((word for word in words if is_split(word)), None)
    return f"{folders}{stated}/" if stated else folders
