"""Archives called after classes, as ImageNet's are: ``n01440764.tar``, ``n01443537.tar``, ..."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from .findings import Findings
from .layout import Entry
from .shards import stem
from .splits import is_split

__all__ = ["named_after_classes", "with_classes"]


def with_classes(
    archives: Sequence[Path], folders: Sequence[str], found: Sequence[list[Entry]], findings: Findings
) -> list[Entry]:
    """Return the images of all archives, below a folder called after the archive where archives are classes.

    Args:
        archives: of a folder.
        folders: that each stands for, below which its images are.
        found: the images of each.
        findings: told of archives that are taken for classes.
    """
    groups: dict[str, list[int]] = defaultdict(list)
    for number, folder in enumerate(folders):
        groups[folder].append(number)
    entries: list[Entry] = []
    for folder, numbers in groups.items():
        names = [stem(archives[number]) for number in numbers]
        flat = all(_is_flat(entry, folder) for number in numbers for entry in found[number])
        if not (flat and named_after_classes(names)):
            entries += [entry for number in numbers for entry in found[number]]
            continue
        findings.note(f"the {len(names):,} archives are taken for classes, by their names: {', '.join(names[:3])}, ...")
        for number, name in zip(numbers, names, strict=True):
            entries += [each._replace(path=f"{folder}{name}/{each.path[len(folder) :]}") for each in found[number]]
    return entries


def named_after_classes(names: Sequence[str]) -> bool:
    """Whether these names of archives are of classes, and not of shards or splits.

    Shards have one name and numbers, after a sign or in sequence.

    Example:
        >>> named_after_classes(["n01440764", "n01443537"]), named_after_classes(["shard-000", "shard-007"])
        (True, False)
    """
    if len(names) < 2 or any(is_split(word) for name in names for word in re.split(r"[^a-z]+", name.lower())):
        return False
    parts = [re.fullmatch(r"(.*?)(\d+)", name) for name in names]
    prefixes = {part[1] if part else None for part in parts}
    if len(prefixes) > 1 or None in prefixes:
        return True
    numbers = sorted(int(part[2]) for part in parts if part)
    in_sequence = numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    return not in_sequence and all(prefix and prefix[-1].isalpha() for prefix in prefixes)


def _is_flat(entry: Entry, folder: str) -> bool:
    return entry.label is None and "/" not in entry.path[len(folder) :]
