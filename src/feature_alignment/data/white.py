"""The value of white in images of more than 8 bits: one for the whole data set, from what the files declare."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from .findings import Findings

__all__ = ["Given", "White", "is_deep", "white_of_floats", "white_of_integers"]

if TYPE_CHECKING:
    from PIL import Image

#: Values of white that are known: one for all images, or by :data:`INTEGERS` and :data:`FLOATS`.
Given: TypeAlias = float | Mapping[str, float]
INTEGERS, FLOATS = "integers", "floating point"

#: Bits that cameras and microscopes put into containers of 16 or 32.
DEPTHS = (8, 10, 12, 14, 16)
BITS_PER_SAMPLE, SAMPLE_FORMAT = 258, 339  # TIFF's tags
SIGNED = 2
#: Pixels of which the extreme values are found at once.
BAND = 2**20


def is_deep(mode: str) -> bool:
    """Whether images of this mode of PIL have more than 8 bits: integers of 16 or 32, or floating point."""
    return mode.startswith(("I", "F"))


def white_of_integers(largest: float, declared: int) -> tuple[float, bool]:
    """Return the value of white for integers, and whether it is a guess.

    It is ``2^b - 1``, with ``b`` the declared bits. Containers of 16 or 32 bits often hold fewer: there ``b`` is the
    least of 8, 10, 12, 14, 16 and the declared bits that holds the largest value, which is a guess unless it is 16, or
    15 of signed ones.

    Args:
        largest: value in the data set.
        declared: bits by the files' headers, without the sign.

    Example:
        >>> white_of_integers(60000, 16), white_of_integers(4000, 16), white_of_integers(900, 12)
        ((65535, False), (4095, True), (4095, False))
    """
    if declared < 15:
        return 2**declared - 1, False
    bits = next((bits for bits in DEPTHS if largest < 2**bits <= 2**declared), declared)
    return 2**bits - 1, bits != declared or declared > 16


def white_of_floats(largest: float) -> tuple[float, bool]:
    """Return the value of white for floating point, and whether it is a guess: 1 if no value is above it.

    Above 1 it is a guess: 1 up to 2, where values overshoot; then the least of 255, 4095 and 65535 that is not
    exceeded, or the largest value.

    Example:
        >>> white_of_floats(0.9), white_of_floats(1.03), white_of_floats(200.0)
        ((1.0, False), (1.0, True), (255.0, True))
    """
    if largest <= 2:
        return 1.0, largest > 1
    return next((white for white in (255.0, 4095.0, 65535.0) if largest <= white), largest), True


class White:
    """The value of white of a data set's deep images, found when the first of them is decoded.

    Args:
        deep: reads all deep images of the set, of both splits.
        findings: told of guesses.
        given: the values that are known, instead.

    Attributes:
        found: the values that were asked for, by :data:`INTEGERS` and :data:`FLOATS`.
    """

    def __init__(
        self, deep: Callable[[], Iterable[Image.Image]], findings: Findings, given: Given | None = None
    ) -> None:
        self._deep, self._findings, self._given = deep, findings, given
        self._guessed: dict[str, float] = {}
        self.found: dict[str, float] = {}
        self._lock = threading.Lock()

    def __call__(self, mode: str) -> float:
        """Return the value of white for images of a deep mode."""
        kind = FLOATS if mode.startswith("F") else INTEGERS
        with self._lock:
            self.found[kind] = self._value(kind)
        return self.found[kind]

    def _value(self, kind: str) -> float:
        if isinstance(self._given, Mapping):
            if kind in self._given:
                return self._given[kind]
        elif self._given is not None:
            return self._given
        if not self._guessed:
            self._find()
        return self._guessed[kind]

    def _find(self) -> None:
        """Read the extreme values of all deep images of the set, floating point and not."""
        lowest, largest, declared = {True: 0.0, False: 0.0}, {True: -math.inf, False: -math.inf}, 0
        for picture in self._deep():
            is_float = picture.mode.startswith("F")
            for values in _bands(picture):
                lowest[is_float] = min(lowest[is_float], float(values.min()))
                largest[is_float] = max(largest[is_float], float(values.max()))
            declared = declared if is_float else max(declared, _bits(picture))
        for is_float in (True, False):
            white, guess = white_of_floats(largest[True]) if is_float else white_of_integers(largest[False], declared)
            self._guessed[FLOATS if is_float else INTEGERS] = white
            if largest[is_float] > -math.inf:
                self._say("floating point" if is_float else f"{declared} bits", largest[is_float], white, guess)
                if lowest[is_float] < 0:
                    self._findings.note(f"values below 0, down to {lowest[is_float]:g}, become black")

    def _say(self, kind: str, largest: float, white: float, guess: bool) -> None:
        if guess:
            self._findings.note(
                f"in images of {kind}, {white:g} is taken for white, a guess: the largest value of all is {largest:g}; "
                "a training's --data.white sets it"
            )


def _bands(picture: Image.Image) -> Iterator[npt.NDArray[Any]]:
    """Yield the finite values of an image, some rows at a time: copies of a large one would need much memory."""
    rows = max(1, BAND // picture.width)
    for top in range(0, picture.height, rows):
        values = np.asarray(picture.crop((0, top, picture.width, min(top + rows, picture.height))))
        if values.size and not np.isfinite(values.sum(dtype=np.float64)):
            values = values[np.isfinite(values)]
        if values.size:
            yield values


def _bits(picture: Image.Image) -> int:
    """Return the bits of an integer image by its header, without the sign."""
    tags = getattr(picture, "tag_v2", None) or {}
    if bits := _first(tags.get(BITS_PER_SAMPLE)):
        return bits - (_first(tags.get(SAMPLE_FORMAT)) == SIGNED)
    return 16  # PNG, PGM and JPEG 2000, whose values PIL scales to 16 bits


def _first(value: Any) -> int:
    """Return the value of a tag, the first of several, or 0."""
    return int((value[0] if isinstance(value, tuple) else value) or 0)
