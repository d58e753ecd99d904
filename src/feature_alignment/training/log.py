"""The log of a training: ``log.csv``, and the same numbers for TensorBoard."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path

from ..extras import require
from ..files import naming, write_atomically

__all__ = ["Log", "read_rows"]


class Log:
    """Writes the losses every few updates, flushing each line.

    Args:
        path: of the CSV file.
        done: number of updates done already; lines of later updates are dropped, as the resumed training writes
            them again.
    """

    def __init__(self, path: Path, done: int = 0) -> None:
        self.path = path
        self.rows = [_whole(row) for row in read_rows(path) if row["step"] < done]
        self.names: list[str] = []
        tensorboard = require("torch.utils.tensorboard", "train", "the log of a training")
        self.board = tensorboard.SummaryWriter(path.parent, purge_step=done if done else None)
        self._write_all()

    def write(self, row: Mapping[str, float]) -> None:
        """Add a line; ``step`` is the number of the update, counted from 0."""
        self.rows.append(dict(row))
        for name in row.keys() - {"step", "epoch"}:
            self.board.add_scalar(name, row[name], int(row["step"]))
        if set(row) - set(self.names):
            self._write_all()
        else:
            with naming(self.path), self.path.open("a", newline="") as file:
                csv.DictWriter(file, self.names).writerow(row)

    def close(self) -> None:
        """Flush what TensorBoard reads."""
        self.board.close()

    def _write_all(self) -> None:
        self.names = list(dict.fromkeys(name for row in self.rows for name in row))
        text = io.StringIO(newline="")
        if self.names:
            writer = csv.DictWriter(text, self.names)
            writer.writeheader()
            writer.writerows(self.rows)
        write_atomically(self.path, text.getvalue())


def _whole(row: Mapping[str, float]) -> dict[str, float]:
    return {name: int(value) if name in ("epoch", "step") else value for name, value in row.items()}


def read_rows(path: Path) -> list[dict[str, float]]:
    """Return the lines of a log as numbers by name; a line that was cut off half-way is left out."""
    if not path.is_file():
        return []
    rows = []
    # A line without its end may have lost digits and still be a line of numbers.
    whole = [line for line in path.read_bytes().decode(errors="replace").splitlines(keepends=True) if line[-1] == "\n"]
    for row in csv.DictReader(whole):
        try:
            rows.append({name: float(value) for name, value in row.items() if value})
        except (TypeError, ValueError):
            continue
    return [row for row in rows if "step" in row]
