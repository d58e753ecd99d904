"""What a table or figure comes to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

__all__ = ["Result", "Table"]


@dataclass
class Table:
    """Numbers beside each other.

    Attributes:
        columns: heads of all columns but the first.
        rows: label to cells: text, a number, a :data:`feature_alignment.reproduce.study.Cell`, or none.
    """

    columns: list[str]
    rows: dict[str, list[Any]]


@dataclass
class Result:
    """One table or figure of the paper, reproduced.

    Attributes:
        target: its name on the command line.
        title: what it shows.
        claim: what the paper says of it.
        table: its numbers.
        pictures: file name, beside the JSON, to caption.
        notes: what to know when reading it.
        numbers: whatever else was measured.
    """

    target: str
    title: str
    claim: str
    table: Table
    pictures: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    numbers: dict[str, Any] = field(default_factory=dict)
