"""The pictures of a comparison: the error over latents, training time and steps; samples over beta."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...report import charts
from ..result import Table
from .settings import Method
from .table import LINEAR

__all__ = ["draw"]

#: Of all ordinates.
BETTER = "lower is better"
#: One colour in all pictures for the models of a kind, whose lines differ in their style.
COLOURS = {"AE": "C0", "VAE": "C0", "GON": "C1", "FA": "C2", "VFA": "C2", "VFAGAN": "C2", "GAN": "C3"}
#: Marker and line of the first of a kind, of the second, ...
STYLES = tuple(itertools.product(("o", "s"), ("-", "--", ":", "-.")))
#: Columns whose curves over beta are drawn: of the prior, and of the sampler fitted to the latents of each class.
DRAWN = {"FID, normal": "N(0, I)", "FID, mixture": "mixture"}


def draw(
    directory: Path,
    name: str,
    methods: Mapping[str, Method],
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
        methods: the models, by their names.
        table: as :func:`feature_alignment.reproduce.quality.table.quality_table` returns it.
        wall: as :func:`feature_alignment.reproduce.quality.table.wall_table` returns it.
        betas: as :func:`feature_alignment.reproduce.quality.table.curve_over_betas` returns it.
        steps: as :func:`feature_alignment.reproduce.quality.table.steps_table` returns it.
        latent: size for the comparison at equal wall time and over beta.

    Returns:
        Captions by file name.
    """
    found = {}
    titles = {method.name: method.title for method in methods.values()}
    colours = {method.title: COLOURS[method.model] for method in methods.values()} | {LINEAR: "C7"}
    by_latents = _lines(table.rows, 0, table.columns.index("error"), titles) if "error" in table.columns else {}
    by_latents = {model: line for model, line in by_latents.items() if len(line[0]) > 1}
    if by_latents:
        found["error-latents.png"] = "Held-out error against the number of latents, mean and deviation over seeds."
        sizes = sorted({at for line in by_latents.values() for at in line[0]})
        panel = {f"{name}: error per image": by_latents}
        _plot(panel, directory / "error-latents.png", "latents", colours, x_ticks=sizes)
    one_size = {label: cells for label, cells in wall.rows.items() if cells[0] == latent}
    by_time = _lines(one_size, 1, 2, titles, first_seed=True)  # not all times have the others
    if any(len(line[0]) > 1 for line in by_time.values()):
        found["error-time.png"] = (
            f"Held-out error against the training time, in multiples of the autoencoder's; {latent} latents, "
            "first seed."
        )
        panel = {f"{name}, {latent} latents: error per image": by_time}
        _plot(panel, directory / "error-time.png", "time, in multiples of the autoencoder's", colours)
    by_beta = {
        f"{name}: classifier FID, {sampler}": _lines(
            betas.rows, betas.columns.index("error"), betas.columns.index(column), titles, as_listed=True
        )
        for column, sampler in DRAWN.items()
        if column in betas.columns
    }
    if any(len(line[0]) > 1 for lines in by_beta.values() for line in lines.values()):
        found["fid-error.png"] = (
            f"Classifier FID of samples against the held-out error, a point for each beta, joined in their order; "
            f"{latent} latents, before a refiner."
        )
        _plot(by_beta, directory / "fid-error.png", "error per image", colours, x_scale="linear")
    if steps.rows:
        found["error-steps.png"] = (
            "Held-out error after other numbers of steps, over that after the trained number; a line for each seed."
        )
        curves = {f"{name}: error over that after T steps": _over_steps(steps, titles)}
        charts.plots(curves, directory / "error-steps.png", x_label="steps", y_label=BETTER, marker="o")
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
    rows: Mapping[str, Sequence[Any]],
    x: int,
    y: int,
    titles: Mapping[str, str],
    *,
    first_seed: bool = False,
    as_listed: bool = False,
) -> dict[str, charts.Line]:
    """Return a line for each model, which a row's label begins with, in the order of its abscissae or of the rows.

    Its values are means with their deviations over seeds, or those of the first seed.
    """
    points: dict[str, list[tuple[float, float, float]]] = {}
    for label, cells in rows.items():
        if cells[x] is not None and cells[y] is not None:
            abscissa = cells[x]["mean"] if isinstance(cells[x], Mapping) else cells[x]
            model = label.partition(",")[0]
            value = cells[y]["values"][0] if first_seed else cells[y]["mean"]
            deviation = math.nan if first_seed or cells[y]["std"] is None else cells[y]["std"]
            points.setdefault(titles.get(model, model), []).append((abscissa, value, deviation))
    lines: dict[str, charts.Line] = {}
    for model, each in points.items():
        at, values, deviations = (list(of) for of in zip(*(each if as_listed else sorted(each)), strict=True))
        lines[model] = (at, values) if all(map(math.isnan, deviations)) else (at, values, deviations)
    return lines


def _plot(
    panels: Mapping[str, Mapping[str, charts.Line]],
    path: Path,
    x_label: str,
    colours: Mapping[str, str],
    x_scale: str = "log",
    x_ticks: Sequence[float] = (),
) -> None:
    """Draw the panels; of lines of one colour, every one has another style."""
    labels = dict.fromkeys(label for lines in panels.values() for label in lines)
    left = {colour: itertools.cycle(STYLES) for colour in colours.values()}
    styles = {}
    for label in labels:
        colour = colours[label]
        marker, line = next(left[colour])
        styles[label] = {"color": colour, "marker": marker, "linestyle": line}
    drawn = {title: {model: [line] for model, line in lines.items()} for title, lines in panels.items()}
    charts.plots(drawn, path, x_label=x_label, x_scale=x_scale, x_ticks=x_ticks, y_label=BETTER, styles=styles)
