"""Figure 12: the reconstruction error of all models."""

from __future__ import annotations

from typing import Any

from ...report import charts
from ..result import Result, Table
from ..study import Study
from .methods import ALL, GIVEN_LABEL, METHODS, bar, measures_of
from .target import Target

__all__ = ["FIGURE_12"]


def _make(study: Study) -> Result:
    rows: dict[str, list[Any]] = {method: measures_of(study, method, ["reconstruction_error"]) for method in METHODS}
    bars = {method: bar(cells[0]) for method, cells in rows.items()}
    rows["mean image"] = [study.measure("ae", "reconstruction_error", "reference")]
    title = f"reconstruction error, {study.name}"
    charts.bars(bars, study.directory / "fig12.png", title=title, unit="squared distance per image")
    order = f"Lowest to highest: {', '.join(sorted(bars, key=lambda method: bars[method][0]))}."
    return Result(
        "fig12",
        "reconstruction error of AE, VAE, GAN, feature and refined feature",
        "the autoencoder has the lowest loss; the feature compares with the VAE and the refined feature with the GAN.",
        Table(["squared distance per image"], rows),
        {"fig12.png": "Mean and standard deviation over seeds; held-out images."},
        [order, GIVEN_LABEL] if study.model("vfa-gan").classes else [order],
    )


FIGURE_12 = Target(_make, ALL)
