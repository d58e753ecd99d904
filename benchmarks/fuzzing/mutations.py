"""Changes to bytes and to trees of plain values, all drawn from one random generator."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np

#: Sizes, offsets and counts that readers get wrong.
INTEGERS = (0, 1, 2, 7, 127, 128, 255, 256, 32767, 32768, 65535, 65536, 100_000, 2**24, 2**31 - 1, 2**31, 2**32 - 1)

#: What takes the place of a value in a tree.
VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2, 3.5, -0.0, 1e308, float("nan"), float("inf"), 10**6, 2**31, 2**63, 10**30, -(2**63),
    "", "0", "-1", "nan", "null", "auto", "~", "../..", "/dev/zero", "\0", "a" * 5000, "ä\u0308\u202e", "\ud800",
    [], [[]], {}, {"": None}, [0] * 1000, [10**9, 10**9, 10**9], {"class_path": "torch.nn.Linear"},
    {"class_path": "os.system", "init_args": {"command": "true"}},
)  # fmt: skip


def nested(depth: int) -> list[Any]:
    """Return lists in lists, deeper than parsers that recurse can follow."""
    found: list[Any] = []
    for _ in range(depth):
        found = [found]
    return found


def change_bytes(rng: np.random.Generator, content: bytes, other: bytes, header: int = 16) -> bytes:
    """Change some bytes; most often beyond the first ``header``, which tell only what kind of file it is.

    Args:
        rng: draws.
        content: of a whole file, not empty.
        other: content of another one, for splices.
        header: length of the part that is mostly left whole.
    """
    found = bytearray(content)
    for _ in range(int(rng.choice((1, 1, 1, 2, 4, 16)))):
        first = header if rng.random() < 0.85 and len(found) > header + 1 else 0
        near = min(len(found), first + 128) if rng.random() < 0.5 else len(found)
        at = int(rng.integers(first, near)) if near > first else 0
        _CHANGES[int(rng.integers(len(_CHANGES)))](rng, found, at, other)
        if not found:
            break
    return bytes(found)


def _flip(rng: np.random.Generator, found: bytearray, at: int, _: bytes) -> None:
    found[at] ^= 1 << int(rng.integers(8))


def _replace(rng: np.random.Generator, found: bytearray, at: int, _: bytes) -> None:
    length = int(rng.integers(1, 9))
    found[at : at + length] = rng.bytes(min(length, len(found) - at))


def _integer(rng: np.random.Generator, found: bytearray, at: int, _: bytes) -> None:
    """Write a number as a header field would have it."""
    width = int(rng.choice((1, 2, 4, 8)))
    order: Any = "little" if rng.random() < 0.5 else "big"
    value = int(rng.choice(np.array(INTEGERS, np.uint64))) % 256**width
    found[at : at + width] = value.to_bytes(width, order)[: len(found) - at]


def _truncate(_: np.random.Generator, found: bytearray, at: int, __: bytes) -> None:
    del found[at:]


def _delete(rng: np.random.Generator, found: bytearray, at: int, _: bytes) -> None:
    del found[at : at + int(rng.integers(1, 64))]


def _duplicate(rng: np.random.Generator, found: bytearray, at: int, _: bytes) -> None:
    chunk = found[at : at + int(rng.integers(1, 256))]
    found[at:at] = chunk * int(rng.integers(1, 4))


def _splice(rng: np.random.Generator, found: bytearray, at: int, other: bytes) -> None:
    if other:
        found[at:] = other[int(rng.integers(len(other))) :]


def _insert(rng: np.random.Generator, found: bytearray, at: int, _: bytes) -> None:
    found[at:at] = rng.bytes(int(rng.integers(1, 64)))


def _fill(rng: np.random.Generator, found: bytearray, at: int, _: bytes) -> None:
    length = min(int(rng.integers(1, 64)), len(found) - at)
    found[at : at + length] = bytes([int(rng.choice((0, 255)))]) * length


_CHANGES: list[Callable[[np.random.Generator, bytearray, int, bytes], None]] = [
    _flip, _flip, _replace, _integer, _integer, _integer, _truncate, _delete, _duplicate, _splice, _insert, _fill,
]  # fmt: skip


def change_tree(rng: np.random.Generator, tree: Any, values: tuple[Any, ...] = VALUES) -> Any:
    """Change keys and values somewhere in dictionaries and lists."""
    found = copy.deepcopy(tree)
    for _ in range(int(rng.choice((1, 1, 2, 3)))):
        places = list(_places(found))
        if not places:
            return values[int(rng.integers(len(values)))]
        owner, key = places[int(rng.integers(len(places)))]
        _change_at(rng, owner, key, values)
    return found


def _places(tree: Any) -> Any:
    """Yield every container in a tree with every key that it has."""
    keys = list(tree) if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ()
    for key in keys:
        yield tree, key
        yield from _places(tree[key])


def _change_at(rng: np.random.Generator, owner: Any, key: Any, values: tuple[Any, ...]) -> None:
    chance, value = rng.random(), values[int(rng.integers(len(values)))]
    if chance < 0.6:
        owner[key] = copy.deepcopy(value)
    elif chance < 0.7 and isinstance(owner[key], int | float):
        owner[key] = owner[key] * int(rng.choice((-1, 2, 1000, 10**6)))
    elif chance < 0.8:
        del owner[key]
    elif isinstance(owner, dict):
        new = str(key)[:-1] if chance < 0.9 else f"{key}{value!s:.9}"
        owner[new] = owner.pop(key)
    else:
        owner.insert(key, copy.deepcopy(owner[key]))
