"""The pictures of a comparison: the error over latents, training time and steps; samples over beta."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...report import charts
from ..result import Table

__all__ = ["draw"]


#: Columns whose curves over beta are drawn: of the prior, and of the sampler fitted to the latents of each class.
DRAWN = {"FID, normal": "N(0, I)", "FID, mixture": "mixture"}


def draw(
    directory: Path,
    name: str,
    titles: Mapping[str, str],
    table: Table,
    wall: Table,
    betas: Table,
    steps: Table,
    latent: int,
) -> dict[str, str]:
    """Draw what the tables have.

    Args:
        directory: to write into.
        name: of the data set.
        titles: of the models, by their names.
        table: as :func:`feature_alignment.reproduce.quality.table.quality_table` returns it.
        wall: as :func:`feature_alignment.reproduce.quality.table.wall_table` returns it.
        betas: as :func:`feature_alignment.reproduce.quality.table.curve_over_betas` returns it.
        steps: as :func:`feature_alignment.reproduce.quality.table.steps_table` returns it.
        latent: size for the comparison at equal wall time and over beta.

    Returns:
        Captions by file name.
    """
    found = {}
    by_latents = _lines(table.rows, 0, table.columns.index("error"), titles) if "error" in table.columns else {}
    by_latents = {model: line for model, line in by_latents.items() if len(line[0]) > 1}
    if by_latents:
        found["error-latents.png"] = "Held-out error against the number of latents, mean over seeds."
        sizes = sorted({at for line in by_latents.values() for at in line[0]})
        _plot({f"{name}: error per image": by_latents}, directory / "error-latents.png", "latents", x_ticks=sizes)
    one_size = {label: cells for label, cells in wall.rows.items() if cells[0] == latent}
    by_time = _lines(one_size, 1, 2, titles, first_seed=True)  # not all times have the others
    if any(len(at) > 1 for at, _ in by_time.values()):
        found["error-time.png"] = (
            f"Held-out error against the training time, in multiples of the autoencoder's; {latent} latents, "
            "first seed."
        )
        panel = {f"{name}, {latent} latents: error per image": by_time}
        _plot(panel, directory / "error-time.png", "time, in multiples of the autoencoder's")
    by_beta = {
        f"{name}: classifier FID, {sampler}": _lines(
            betas.rows, betas.columns.index("error"), betas.columns.index(column), titles
        )
        for column, sampler in DRAWN.items()
        if column in betas.columns
    }
    if any(len(at) > 1 for lines in by_beta.values() for at, _ in lines.values()):
        found["fid-error.png"] = (
            f"Classifier FID of samples against the held-out error, a point for each beta, left the smallest; "
            f"{latent} latents, before a refiner."
        )
        _plot(by_beta, directory / "fid-error.png", "error per image", x_scale="linear")
    if steps.rows:
        found["error-steps.png"] = (
            "Held-out error after other numbers of steps, over that after the trained number; a line for each seed."
        )
        curves = {f"{name}: error over that after T steps": _over_steps(steps, titles)}
        charts.plots(curves, directory / "error-steps.png", x_label="steps", marker="o")
    return found


def _over_steps(steps: Table, titles: Mapping[str, str]) -> dict[str, list[charts.Line]]:
    """Return the lines of every model and size, one for each seed; a number that is not finite is left out."""
    lines: dict[str, list[charts.Line]] = {}
    for label, cells in steps.rows.items():
        kept = [(float(at), value) for at, value in zip(steps.columns, cells, strict=True) if value is not None]
        line = [at for at, _ in kept], [value for _, value in kept]
        model, size = label.split(", ")[:2]
        lines.setdefault(f"{titles.get(model, model)}, {size} latents", []).append(line)
    return lines


def _lines(
    rows: Mapping[str, Sequence[Any]], x: int, y: int, titles: Mapping[str, str], first_seed: bool = False
) -> dict[str, charts.Line]:
    """Return a line for each model, which a row's label begins with, in the order of its abscissae."""
    points: dict[str, list[tuple[float, float]]] = {}
    for label, cells in rows.items():
        if cells[x] is not None and cells[y] is not None:
            abscissa = cells[x]["mean"] if isinstance(cells[x], Mapping) else cells[x]
            model = label.partition(",")[0]
            value = cells[y]["values"][0] if first_seed else cells[y]["mean"]
            points.setdefault(titles.get(model, model), []).append((abscissa, value))
    return {
        model: ([at for at, _ in sorted(each)], [value for _, value in sorted(each)]) for model, each in points.items()
    }


def _plot(
    panels: Mapping[str, Mapping[str, charts.Line]],
    path: Path,
    x_label: str,
    x_scale: str = "log",
    x_ticks: Sequence[float] = (),
) -> None:
    drawn = {title: {model: [line] for model, line in lines.items()} for title, lines in panels.items()}
    charts.plots(drawn, path, x_label=x_label, x_scale=x_scale, x_ticks=x_ticks, marker="o")
