"""The tables of a comparison, from the JSON of its finished trainings."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from ..result import Table
from ..study import Cell, cell
from .comparison import Comparison, Part
from .entries import Entry
from .measures import STEPS
from .search import chosen, searched
from .settings import Method

__all__ = ["curve_over_betas", "quality_table", "search_table", "steps_table", "wall_table"]

#: What a trained model is decoded to, before a refiner.
DECODED = ("feature", "decoded")
#: The best linear map, of which there is one: no training, no seed.
LINEAR = "principal components"
#: Most steps by which a feature was decoded.
MOST = max(STEPS)


def quality_table(study: Comparison, part: Part = "table") -> Table:
    """Return a row for every model and size: errors, distances, parameters, times; a cell is a number over seeds.

    The column "over T" has the error after these, divided by that after the trained number.
    """
    samplers = _samplers(study, part)
    columns = ["latents", "error", f"error, {MOST} steps over T", "error, refined"]
    columns += [f"FID, {name}" for name in samplers]
    columns += [*(f"FID, refined, {name}" for name in samplers), *(f"named, {name}" for name in samplers)]
    columns += ["parameters, million", "ms an update, fastest seed", "seeds", "diverged"]
    rows: dict[str, list[Any]] = {}
    for method in study.plan.methods.values():
        finished = [entry for entry in study.entries(part) if entry.method == method.name]
        for latent in sorted({entry.latent for entry in finished}):
            found = _read(study, [entry for entry in finished if entry.latent == latent])
            if found:
                rows[f"{method.name}, {latent}"] = [latent, *_numbers(found, samplers)]
    if rows and part == "table":
        for latent, error in study.principal_components().items():
            rows[f"{LINEAR}, {latent}"] = [latent, cell([error]), *[None] * (len(columns) - 2)]
    return Table(_used(columns, rows), {name: _used_of(columns, rows, cells) for name, cells in rows.items()})


def search_table(study: Comparison) -> Table:
    """Return a row for every model and activation, a column for every learning rate, and what was chosen."""
    search = study.plan.search
    rates = search["learning_rate"]
    rows: dict[str, list[Any]] = {}
    for method in study.plan.methods.values():
        values = {(each["activation"], each["learning_rate"]): each["value"] for each in _grid(study, method)}
        best = chosen(method, study.plan, study.folder)
        for activation in search["activation"]:
            mark = best is not None and best["activation"] == activation
            cells = [values.get((activation, rate)) for rate in rates]
            rows[f"{method.name}, {activation}"] = [
                method.criterion,
                *cells,
                f"{best['learning_rate']:g}" if best is not None and mark else None,
            ]
    return Table(["minimised", *(f"{rate:g}" for rate in rates), "chosen"], rows)


def wall_table(study: Comparison) -> Table:
    """Return a row for every model, size and number of updates: its time over the autoencoder's, and its error."""
    rows: dict[str, list[Any]] = {}
    for method in study.plan.methods.values():
        best = chosen(method, study.plan, study.folder)
        entries = [each for part in ("wall", "table") for each in study.entries(part) if each.method == method.name]
        timed = study.folder.timing(f"timing-{method.name}-z{study.plan.latent}") if best else None
        kept = {each.name: each for each in entries if each.kind == "training"} if timed else {}
        for latent, updates in sorted({(each.latent, each.updates) for each in kept.values()}):
            found = _read(study, [each for each in kept.values() if (each.latent, each.updates) == (latent, updates)])
            if found and timed:
                rows[f"{method.name}, {latent}, {updates:,} updates"] = [
                    latent,
                    round(timed["ratio"] * updates / study.plan.updates, 3),
                    _over_seeds(found, lambda each: _stage(each["measures"].get("reconstruction_error"))),
                ]
    return Table(["latents", "time", "error"], rows)


def curve_over_betas(study: Comparison) -> Table:
    """Return a row for every variational model and beta, at one size."""
    samplers = _samplers(study, "betas")
    columns = ["beta", "error", *(f"FID, {name}" for name in samplers), *(f"named, {name}" for name in samplers)]
    rows: dict[str, list[Any]] = {}
    for method in study.plan.methods.values():
        entries = [entry for entry in study.entries("betas") if entry.method == method.name]
        for beta in study.plan.betas:
            found = _read(study, [each for each in entries if study.settings(each)["options"]["beta"] == beta])
            if found:
                rows[f"{method.name}, {beta:g}"] = [
                    beta,
                    _over_seeds(found, lambda each: _stage(each["measures"].get("reconstruction_error"))),
                    *_by_sampler(found, "classifier_fid", samplers, _stage),
                    *_by_sampler(found, "class_agreement", samplers, _stage),
                ]
    return Table(columns, rows)


def steps_table(study: Comparison) -> Table:
    """Return, by model and size, the error after any number of steps, divided by that after the trained number."""
    rows: dict[str, list[Any]] = {}
    counts: list[str] = []
    for entry in study.entries("table"):
        for found in _read(study, [entry]):
            curve = _by_steps(found)
            if curve:
                counts = list(curve)
                rows[f"{entry.method}, {entry.latent}, seed {entry.seed}"] = list(curve.values())
    return Table(counts, rows)


# --------------------------------------------------------------------------------------------------------------


def _grid(study: Comparison, method: Method) -> list[dict[str, Any]]:
    return searched(method, study.plan, study.folder)


def _read(study: Comparison, entries: Iterable[Entry]) -> list[dict[str, Any]]:
    """Return the content of those entries that are finished."""
    return [study.folder.read(each.name, study.settings(each)) for each in entries if study.folder.finished(each.name)]


def _samplers(study: Comparison, part: Part) -> list[str]:
    """Return the names of all samplers measured."""
    names = [name for each in _read(study, study.entries(part)) for name in each["measures"].get("classifier_fid", {})]
    return list(dict.fromkeys(names))


def _numbers(found: list[dict[str, Any]], samplers: list[str]) -> list[Any]:
    """Return the cells of a row, over the seeds of one model and size."""
    times = [each["training"]["seconds"] / each["training"]["steps"] for each in found if "seconds" in each["training"]]
    lost = [each for each in found if "diverged" in each["training"]]
    parameters = next((each["parameters"]["model"] / 1e6 for each in found if "parameters" in each), None)
    return [
        _over_seeds(found, lambda each: _stage(each["measures"].get("reconstruction_error"))),
        _over_seeds(found, lambda each: _by_steps(each).get(str(MOST))),
        _over_seeds(found, lambda each: _refined(each["measures"].get("reconstruction_error"))),
        *_by_sampler(found, "classifier_fid", samplers, _stage),
        *_by_sampler(found, "classifier_fid", samplers, _refined),
        *_by_sampler(found, "class_agreement", samplers, _last),
        None if parameters is None else round(parameters, 3),
        1000 * min(times) if times else None,  # whatever else the machine did only adds
        str(len(found)),
        str(len(lost)),
    ]


def _by_steps(found: dict[str, Any]) -> dict[str, float | None]:
    """Return, by number of steps, the error over that after the trained number, of the same images."""
    curve = found["measures"].get("error_by_steps") or {}
    trained = curve.get(str(found["settings"]["options"].get("steps")))
    return {count: None if each is None or trained is None else each / trained for count, each in curve.items()}


def _by_sampler(
    found: list[dict[str, Any]], measure: str, samplers: list[str], take: Callable[[Any], float | None]
) -> list[Cell | None]:
    def of(name: str) -> Cell | None:
        return _over_seeds(found, lambda each: take(each["measures"].get(measure, {}).get(name)))

    return [of(name) for name in samplers]


def _over_seeds(found: list[dict[str, Any]], take: Callable[[dict[str, Any]], float | None]) -> Cell | None:
    """Return the number over the seeds that have it; none if none has."""
    values = [value for value in map(take, found) if value is not None]
    return cell(values) if values else None


def _stage(stages: dict[str, float] | None) -> float | None:
    return next((stages[name] for name in DECODED if name in stages), None) if stages else None


def _refined(stages: dict[str, float] | None) -> float | None:
    return (stages or {}).get("refined")


def _last(stages: dict[str, float] | None) -> float | None:
    refined = _refined(stages)
    return _stage(stages) if refined is None else refined


def _used(columns: list[str], rows: dict[str, list[Any]]) -> list[str]:
    """Leave out the columns in which no row has a value."""
    return [name for place, name in enumerate(columns) if any(cells[place] is not None for cells in rows.values())]


def _used_of(columns: list[str], rows: dict[str, list[Any]], cells: list[Any]) -> list[Any]:
    used = set(_used(columns, rows))
    return [each for name, each in zip(columns, cells, strict=True) if name in used]
