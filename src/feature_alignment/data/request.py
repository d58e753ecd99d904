"""A request to a source of images."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from .errors import DataError
from .splits import Split
from .white import Given

__all__ = ["Request"]


@dataclass(frozen=True)
class Request:
    """The arguments of :func:`feature_alignment.data.load` but the name, validated.

    Raises:
        DataError: an unknown split, or a size or number of channels out of range.
    """

    split: Split
    image_size: int | None = None
    channels: int | None = None
    strict: bool = False
    image: str | None = None
    label: str | None = None
    config: str | None = None
    white: Given | None = None

    def __post_init__(self) -> None:
        if self.split not in ("train", "test"):
            raise DataError(f"split: expected train or test, got {self.split!r}")
        if self.channels not in (None, 1, 3):
            raise DataError(f"channels: expected 1 or 3, got {self.channels}")
        if self.image_size is not None and self.image_size < 1:
            raise DataError(f"image_size: expected at least 1, got {self.image_size}")
        given = self.white.values() if isinstance(self.white, Mapping) else () if self.white is None else (self.white,)
        for white in given:
            if not 0 < white < math.inf:
                raise DataError(f"white: expected a number above 0, got {white:g}")
