"""The pictures of a comparison: the error against the number of latents, and against the training time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...report import charts
from ..result import Table

__all__ = ["draw"]


def draw(directory: Path, name: str, table: Table, wall: Table, latent: int) -> dict[str, str]:
    """Draw what the tables have.

    Args:
        directory: to write into.
        name: of the data set.
        table: as :func:`feature_alignment.reproduce.quality.table.quality_table` returns it.
        wall: as :func:`feature_alignment.reproduce.quality.table.wall_table` returns it.
        latent: size for the comparison at equal wall time.

    Returns:
        Captions by file name.
    """
    found = {}
    by_latents = _lines(table.rows, 0, table.columns.index("error")) if "error" in table.columns else {}
    if any(len(at) > 1 for at, _ in by_latents.values()):
        found["error-latents.png"] = "Held-out error against the number of latents, mean over seeds."
        _plot({f"{name}: error per image": by_latents}, directory / "error-latents.png", "latents")
    by_time = _lines({label: cells for label, cells in wall.rows.items() if cells[0] == latent}, 1, 2)
    if any(len(at) > 1 for at, _ in by_time.values()):
        found["error-time.png"] = (
            f"Held-out error against the training time, in multiples of the autoencoder's; {latent} latents."
        )
        _plot({f"{name}, {latent} latents: error per image": by_time}, directory / "error-time.png", "time")
    return found


def _lines(rows: Mapping[str, Sequence[Any]], x: int, y: int) -> dict[str, charts.Line]:
    """Return a line for each model, the first word of a row's label, in the order of its abscissae."""
    points: dict[str, list[tuple[float, float]]] = {}
    for label, cells in rows.items():
        if cells[y] is not None:
            points.setdefault(label.partition(",")[0], []).append((cells[x], cells[y]["mean"]))
    return {
        model: ([at for at, _ in sorted(each)], [value for _, value in sorted(each)]) for model, each in points.items()
    }


def _plot(panels: Mapping[str, Mapping[str, charts.Line]], path: Path, x_label: str) -> None:
    drawn = {title: {model: [line] for model, line in lines.items()} for title, lines in panels.items()}
    charts.plots(drawn, path, x_label=x_label, x_scale="log", marker="o")
