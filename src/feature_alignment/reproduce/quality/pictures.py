"""The pictures of a comparison: the error over latents, training time and steps; samples over beta."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...report import charts
from ..result import Table

__all__ = ["draw"]


#: Samplers whose curves over beta are drawn: the prior, and the one that is fitted to the latents of each class.
DRAWN = ("normal", "mixture")


def draw(
    directory: Path, name: str, table: Table, wall: Table, betas: Table, steps: Table, latent: int
) -> dict[str, str]:
    """Draw what the tables have.

    Args:
        directory: to write into.
        name: of the data set.
        table: as :func:`feature_alignment.reproduce.quality.table.quality_table` returns it.
        wall: as :func:`feature_alignment.reproduce.quality.table.wall_table` returns it.
        betas: as :func:`feature_alignment.reproduce.quality.table.curve_over_betas` returns it.
        steps: as :func:`feature_alignment.reproduce.quality.table.steps_table` returns it.
        latent: size for the comparison at equal wall time and over beta.

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
    columns = [f"FID, {sampler}" for sampler in DRAWN]
    by_beta = {
        f"{name}: classifier {column}": _lines(betas.rows, betas.columns.index("error"), betas.columns.index(column))
        for column in columns
        if column in betas.columns
    }
    if any(len(at) > 1 for lines in by_beta.values() for at, _ in lines.values()):
        found["fid-error.png"] = (
            f"Classifier FID of samples against the held-out error, a point for each beta, left the smallest; "
            f"{latent} latents, before a refiner."
        )
        _plot(by_beta, directory / "fid-error.png", "error per image", "linear")
    if steps.rows:
        found["error-steps.png"] = (
            "Held-out error after other numbers of steps, over that after the trained number; a line for each seed."
        )
        panel = {f"{name}: error over that after T steps": _over_steps(steps)}
        charts.plots(panel, directory / "error-steps.png", x_label="steps", marker="o")
    return found


def _over_steps(steps: Table) -> dict[str, list[charts.Line]]:
    """Return the lines of every model and size, one for each seed; a number that is not finite is left out."""
    lines: dict[str, list[charts.Line]] = {}
    for label, cells in steps.rows.items():
        kept = [(float(at), value) for at, value in zip(steps.columns, cells, strict=True) if value is not None]
        line = [at for at, _ in kept], [value for _, value in kept]
        lines.setdefault(label.rpartition(", seed")[0], []).append(line)
    return lines


def _lines(rows: Mapping[str, Sequence[Any]], x: int, y: int) -> dict[str, charts.Line]:
    """Return a line for each model, the first word of a row's label, in the order of its abscissae."""
    points: dict[str, list[tuple[float, float]]] = {}
    for label, cells in rows.items():
        if cells[x] is not None and cells[y] is not None:
            abscissa = cells[x]["mean"] if isinstance(cells[x], Mapping) else cells[x]
            points.setdefault(label.partition(",")[0], []).append((abscissa, cells[y]["mean"]))
    return {
        model: ([at for at, _ in sorted(each)], [value for _, value in sorted(each)]) for model, each in points.items()
    }


def _plot(panels: Mapping[str, Mapping[str, charts.Line]], path: Path, x_label: str, x_scale: str = "log") -> None:
    drawn = {title: {model: [line] for model, line in lines.items()} for title, lines in panels.items()}
    charts.plots(drawn, path, x_label=x_label, x_scale=x_scale, marker="o")
