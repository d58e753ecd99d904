"""Splits and classes of images by their paths: one idea for folders, archives and shards."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, TypeAlias, cast

import numpy as np

from .errors import DataError
from .findings import Findings
from .splits import TEST_NAMES, Split, held_out, is_split, normalised, splits_among

__all__ = ["Arranged", "Entry", "arrange"]


class Entry(NamedTuple):
    """An image of a set.

    Attributes:
        path: below the set's folder, with ``/``.
        label: the class that is stated beside the image, if any: a number or a name.
        place: where it is in an archive; none for a file.
    """

    path: str
    label: str | int | None = None
    place: Any = None


#: Images by class; all under none if there are no classes.
Classes: TypeAlias = dict[str | None, list[Entry]]


class Arranged(NamedTuple):
    """The images of a split, the indices of their classes (-1 for none), and the classes' names."""

    entries: list[Entry]
    labels: list[int]
    classes: list[str]


def arrange(title: str, entries: Sequence[Entry], split: Split, findings: Findings) -> Arranged:
    """Return the images of a split with their classes.

    Folders ``train`` and ``test`` (or other names of :mod:`.splits`, in any case) are the splits; without them every
    tenth image of a class is held out, but for the only one. Below, each folder is a class, unless the images have
    labels of their own. A folder that contains everything else is looked into.

    Args:
        title: of the set, in messages.
        entries: in the order that decides which images are held out.
        split: ``train`` or ``test``.
        findings: told of what is not used.

    Raises:
        DataError: no images, images beside class folders, or a class that the training images have none of.
    """
    depth = _common_depth(entries, 0)
    folders, loose = _by_folder(entries, depth)
    train, tests = splits_among(folders)
    if train and tests:
        arranged = _given(title, folders, train, tests, depth, split, findings)
        _count_beside(folders, loose, {train, *tests}, findings)
    else:
        _check_alone(title, folders, train, tests, depth, findings)
        arranged = _by_tenths(_by_class(title, entries, depth, findings), split)
    if not arranged.entries and entries:
        raise DataError(
            f"{title}: no images for the {split} split: {len(entries)} are too few to hold some out, which takes two, "
            "or two of a class"
        )
    if not arranged.entries:
        raise DataError(f"{title}: no images for the {split} split (formats by extension: png, jpg, webp, ...)")
    return arranged


def _by_tenths(classes: Classes, split: Split) -> Arranged:
    """Return every tenth image of each class, or all others."""
    names, entries, labels = [name for name in classes if name is not None], [], []
    for label, (name, group) in enumerate(classes.items()):
        marks = held_out(len(group)) if name is None or len(group) > 1 else np.zeros(1, bool)
        chosen = [entry for entry, mark in zip(group, marks, strict=True) if mark == (split == "test")]
        entries += chosen
        labels += [label if names else -1] * len(chosen)
    return Arranged(entries, labels, names)


def _given(
    title: str, folders: dict[str, list[Entry]], train: str, tests: list[str], depth: int, split: Split,
    findings: Findings,
) -> Arranged:  # fmt: skip
    """Return a split that has a folder of its own; the held-out one is the first with classes where ``train`` has."""
    known = _by_class(f"{title}/{train}", folders[train], depth + 1, findings)
    level = _common_depth(folders[train], depth + 1)
    found = {
        name: _by_known_class(f"{title}/{name}", folders[name], depth + 1, level, known, findings) for name in tests
    }
    test = next((name for name in tests if (None in found[name]) == (None in known)), tests[0])
    for name in tests:
        if name != test:
            findings.note(f"the {len(folders[name]):,} images of the split {name} are not used; held out is {test}")
    names = [name for name in known if name is not None]
    chosen = known if split == "train" else found[test]
    if unknown := [name for name in found[test] if name is not None and names and name not in names]:
        raise DataError(f"{title}/{test}: the class {unknown[0]} is not among those of {title}/{train}")
    if names and None in chosen:
        findings.note(f"the split {test} has no classes, so it is used without labels")
    if not names or None in chosen:
        entries = [entry for group in chosen.values() for entry in group]
        return Arranged(entries, [-1] * len(entries), [])
    pairs = [(entry, names.index(name)) for name, group in chosen.items() if name is not None for entry in group]
    return Arranged([entry for entry, _ in pairs], [label for _, label in pairs], names)


def _by_class(title: str, entries: Sequence[Entry], depth: int, findings: Findings) -> Classes:
    """Return the images by class, sorted by name."""
    unlabelled = sum(entry.label is None for entry in entries)
    if unlabelled < len(entries):
        return _by_label(title, entries, unlabelled, findings)
    below = _common_depth(entries, depth)
    folders, loose = _by_folder(entries, below)
    if folders and loose:
        raise DataError(
            f"{title}: {len(loose)} images lie beside the class folders {', '.join(folders)}; every image must be in a "
            "class folder, or none"
        )
    if loose and below > 0 and not is_split(only := _folder(loose[0], below - 1) or ""):
        findings.note(f"all images are in the one folder {only}, and one class is none: no labels are used")
    return cast(Classes, folders) or {None: loose}


def _by_known_class(
    title: str, entries: Sequence[Entry], depth: int, level: int, known: Classes, findings: Findings
) -> Classes:
    """Return a held-out split by class; its only folder is one too if the training split, at ``level``, has it."""
    folders, loose = _by_folder(entries, level)
    if not loose and folders.keys() & known.keys() and all(entry.label is None for entry in entries):
        return cast(Classes, folders)
    return _by_class(title, entries, depth, findings)


def _by_label(title: str, entries: Sequence[Entry], unlabelled: int, findings: Findings) -> Classes:
    """Return the images by the labels stated beside them; numbers are sorted by size."""
    if unlabelled:
        findings.note(f"{unlabelled:,} of {len(entries):,} labels of {title} are missing, so none is used")
        return {None: list(entries)}
    groups: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        groups[str(entry.label)].append(entry)
    numbers = all(isinstance(entry.label, int) for entry in entries)
    return {label: groups[label] for label in sorted(groups, key=int if numbers else None)}


def _folder(entry: Entry, depth: int) -> str | None:
    """Return the folder of an image at a depth, in composed Unicode; none if it lies in none there."""
    parts = entry.path.split("/", depth + 1)
    return normalised(parts[depth]) if len(parts) == depth + 2 else None


def _by_folder(entries: Iterable[Entry], depth: int) -> tuple[dict[str, list[Entry]], list[Entry]]:
    """Return the images by their folder at a depth, and those that lie in none."""
    folders: dict[str, list[Entry]] = defaultdict(list)
    loose: list[Entry] = []
    for entry in entries:
        folder = _folder(entry, depth)
        (loose if folder is None else folders[folder]).append(entry)
    return {name: folders[name] for name in sorted(folders)}, loose


def _common_depth(entries: Sequence[Entry], depth: int) -> int:
    """Return the first depth where the images are in several folders, or in none: archives often begin with one."""
    while entries:
        first = _folder(entries[0], depth)
        if first is None or any(_folder(entry, depth) != first for entry in entries):
            return depth
        if len({_folder(entry, depth + 1) is None for entry in entries}) == 2:
            return depth  # images and folders in it: one class, of which these are parts
        depth += 1
    return depth


def _check_alone(
    title: str, folders: dict[str, list[Entry]], train: str | None, tests: list[str], depth: int, findings: Findings
) -> None:
    """Refuse, or note, folders that are called like a split and have no partner."""
    if not folders:
        return
    if tests and all(is_split(name) for name in folders):
        raise DataError(f"{title}: the splits {', '.join(folders)}, but no folder train")
    if train and any(_folder(entry, depth + 1) is not None for entry in folders[train]):
        raise DataError(
            f"{title}: the folder {train} has folders of its own, but none beside it is called "
            f"{', '.join(TEST_NAMES)}; rename the folder of held-out images, or give {title}/{train} as the data set"
        )
    for name in [train, *tests] if train else tests:
        findings.note(f"the folder {name} is taken for a class, since the other split is missing")


def _count_beside(folders: dict[str, list[Entry]], loose: list[Entry], splits: set[str], findings: Findings) -> None:
    """Count the images that are in none of the splits."""
    for name, group in folders.items():
        if name not in splits:
            findings.skip("outside the splits", f"{name}/", len(group))
    if loose:
        findings.skip("outside the splits", loose[0].path, len(loose))
