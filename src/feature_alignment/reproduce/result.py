"""The result of a table or figure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

__all__ = ["Result", "Table"]


@dataclass
class Table:
    """A table of numbers.

    Attributes:
        columns: heads of all columns but the first, which has the labels.
        rows: maps each label to its cells: text, a number, a :data:`feature_alignment.reproduce.study.Cell`, or none.
    """

    columns: list[str]
    rows: dict[str, list[Any]]


@dataclass
class Result:
    """One table or figure of the paper, reproduced.

    Attributes:
        target: its name on the command line.
        title: a few words.
        claim: the paper's claim about it.
        table: its numbers.
        pictures: maps file names, in the directory of the JSON, to captions.
        notes: remarks for the reader.
        numbers: further measurements.
    """

    target: str
    title: str
    claim: str
    table: Table
    pictures: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    numbers: dict[str, Any] = field(default_factory=dict)
