"""The description of a target: a table or figure of the paper."""

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
        models: names, in :mod:`feature_alignment.reproduce.settings`, of the models that it needs.
        like: the data set for which the paper shows it; none if it shows all.
    """

    make: Callable[[Study], Result]
    models: Sequence[str] = ()
    like: PaperSet | None = None
