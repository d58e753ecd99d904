"""The description of a named data set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..cache import Meta
from ..errors import DataError
from ..splits import Split

__all__ = ["FilesMissing", "NamedSet"]


class FilesMissing(DataError):  # noqa: N818 (it names what is missing)
    """The files of a named set are not on this machine.

    Args:
        missing: which files, and where they were searched.
        advice: how to get them.
    """

    def __init__(self, missing: str, advice: str) -> None:
        super().__init__(f"{missing}; {advice}")
        self.missing, self.advice = missing, advice


@dataclass(frozen=True)
class NamedSet:
    """A named data set.

    Attributes:
        read: decodes a split into a directory, see :mod:`feature_alignment.data.cache`; raises
            :class:`FilesMissing` if the files are missing.
        shape: ``(C, H, W)`` of its images, which are square.
        hub: repository on the Hugging Face Hub that is read if the files are missing.
    """

    read: Callable[[Split, Path], Meta]
    shape: tuple[int, int, int]
    hub: str | None = None
