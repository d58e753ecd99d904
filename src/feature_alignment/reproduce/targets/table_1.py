"""Table 1: FID of the samples, or classifier FID if the weights of Inception-v3 are missing."""

from __future__ import annotations

from typing import Any

from ...metrics import MEASURES
from ...report import charts
from ..result import Result, Table
from ..settings import PAPER_SETS, PaperSet
from ..study import Study
from .methods import METHODS, bar, measures_of
from .target import Target

__all__ = ["PAPER_TABLE_1", "TABLE_1"]

#: Table 1 of the paper: FID of 10,000 samples, mean and standard deviation of three trainings.
PAPER_TABLE_1: dict[str, dict[PaperSet, tuple[float, float]]] = {
    "VAE": {"MNIST": (39.84, 0.15), "CelebA": (84.84, 0.10), "CIFAR-10": (163.59, 0.37)},
    "GAN": {"MNIST": (21.50, 2.79), "CelebA": (32.85, 1.22), "CIFAR-10": (63.39, 0.62)},
    "feature (shared start)": {"MNIST": (120.02, 1.11), "CelebA": (143.51, 1.04), "CIFAR-10": (209.32, 1.96)},
    "refined (shared start)": {"MNIST": (41.24, 2.71), "CelebA": (132.18, 2.73), "CIFAR-10": (73.20, 2.67)},
}

#: The methods with samples, in the order of the table.
SAMPLED = [method for method in METHODS if method != "AE"]

WITHOUT_INCEPTION = (
    "FID was not measured: it needs the weights of Inception-v3 (--fid yes). The classifier FID is the same formula "
    "(equation 8) on the features of a small classifier trained on this data set: its numbers are not "
    "comparable with the paper's FID, only the order of the methods is."
)


def _make(study: Study) -> Result:
    names = [name for name in ("fid", "kid", "classifier_fid") if study.measure("vae", name, "decoded")]
    decisive = "fid" if "fid" in names else "classifier_fid"
    title, place = MEASURES[decisive].title, names.index(decisive)
    rows = _rows(study, names)
    bars = {method: bar(cells[place]) for method, cells in rows.items() if cells[place]}
    charts.bars(bars, study.directory / "table1.png", title=f"{title}, {study.name}", unit=title)
    return Result(
        "table1",
        "distance of samples to held-out images, lower is better",
        f"FID on {study.like}: the GAN is best, the refined feature comes near to the VAE or passes it, the feature "
        "alone is worst."
        if study.like != "CelebA"
        else "FID on CelebA: the GAN is best, then the VAE; the refined feature is little better than the feature.",
        Table([*(MEASURES[name].title for name in names), f"the paper: FID on {study.like}"], rows),
        {"table1.png": f"{title}, mean and standard deviation over seeds"},
        [_order(study, rows, place, title), *_notes(study, decisive)],
    )


def _rows(study: Study, names: list[str]) -> dict[str, list[Any]]:
    rows: dict[str, list[Any]] = {}
    for method in SAMPLED:
        paper = PAPER_TABLE_1[method][study.like] if method in PAPER_TABLE_1 else None
        published = {"values": [], "mean": paper[0], "std": paper[1]} if paper else None
        rows[method] = [*measures_of(study, method, names), published]
    rows["real images"] = [*(study.measure("vae", name, "reference") for name in names), None]
    return rows


def _order(study: Study, rows: dict[str, list[Any]], place: int, title: str) -> str:
    ours = sorted((each for each in SAMPLED if rows[each][place]), key=lambda each: rows[each][place]["mean"])
    theirs = sorted(PAPER_TABLE_1, key=lambda each: PAPER_TABLE_1[each][study.like][0])
    return f"Best to worst by {title}: {', '.join(ours)}; by the paper's FID on {study.like}: {', '.join(theirs)}."


def _notes(study: Study, decisive: str) -> list[str]:
    notes = [] if decisive == "fid" else [WITHOUT_INCEPTION]
    if study.name != PAPER_SETS[study.like]:
        notes.append(f"The paper's column is for {study.like}; this is {study.name}.")
    return [*notes, *(study.metrics("vae")[0].get("notes", {}).values() if decisive == "fid" else [])]


TABLE_1 = Target(_make, ("vae", "gan", "shared", "vfa-gan"))
