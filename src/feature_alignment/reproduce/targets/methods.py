"""The methods that the paper compares, shared by several tables and figures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..study import Cell, Study

__all__ = ["ALL", "GIVEN_LABEL", "METHODS", "bar", "measures_of"]

#: The methods: name to model and stage of its images. The paper's are AE, VAE, GAN and those with the shared start.
METHODS = {
    "AE": ("ae", "decoded"),
    "VAE": ("vae", "decoded"),
    "GAN": ("gan", "decoded"),
    "feature (shared start)": ("shared", "feature"),
    "refined (shared start)": ("shared", "refined"),
    "feature": ("vfa-gan", "feature"),
    "refined": ("vfa-gan", "refined"),
}

#: The models behind them.
ALL = tuple(dict.fromkeys(model for model, _ in METHODS.values()))

GIVEN_LABEL = "Features and refined images are given the class of the image; AE, VAE and GAN are not."


def measures_of(study: Study, method: str, names: Sequence[str]) -> list[Any]:
    """Return these measures of a method, over the seeds; none for each one that is missing."""
    model, stage = METHODS[method]
    return [study.measure(model, name, stage) for name in names]


def bar(found: Cell) -> tuple[float, float | None]:
    """Return mean and standard deviation."""
    return found["mean"], found["std"]
