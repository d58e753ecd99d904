"""What a target is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..result import Result
from ..settings import PaperSet
from ..study import Study

__all__ = ["Target"]


@dataclass(frozen=True)
class Target:
    """A table or figure of the paper.

    Attributes:
        make: measures and draws it.
        models: that it needs, by their names in :mod:`feature_alignment.reproduce.settings`.
        like: the data set that the paper shows it for; none if it is for all.
    """

    make: Callable[[Study], Result]
    models: Sequence[str] = ()
    like: PaperSet | None = None
