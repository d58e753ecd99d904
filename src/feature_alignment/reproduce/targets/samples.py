"""Figures 7, 9 and 11: samples and interpolations."""

from __future__ import annotations

from typing import Any

import torch

from ...metrics import MEASURES
from ...report import interpolation_picture, one_of_each, sample_picture
from ..result import Result, Table
from ..settings import PaperSet
from ..study import Study
from .methods import measures_of
from .target import Target

__all__ = ["FIGURE_7", "FIGURE_9", "FIGURE_11"]


def _samples(name: str, claim: str, like: PaperSet) -> Target:
    """Samples from the prior, and images between four held-out ones."""

    def make(study: Study) -> Result:
        pictures = _between_held_out(name, study)
        return Result(name, "samples and interpolation", claim, _table(study), pictures)

    return Target(make, ("vfa-gan",), like)


def _interpolations(name: str, claim: str, like: PaperSet) -> Target:
    """Images between four draws from the prior, twice."""

    def make(study: Study) -> Result:
        return Result(name, "interpolation", claim, _table(study), _between_draws(name, study))

    return Target(make, ("vfa-gan",), like)


def _between_held_out(target: str, study: Study) -> dict[str, str]:
    model = study.model("vfa-gan")
    sample_picture(model, study.test.classes, study.directory / f"{target}-samples.png")
    corners, labels = one_of_each(study.test, 4)
    path = study.directory / f"{target}-interpolation.png"
    given = labels if model.classes else None
    interpolation_picture(model, model.encode(corners, given), given, path, title="between four held-out images")
    return {
        f"{target}-samples.png": "Refined samples from the prior, a column a class if there are classes.",
        path.name: "Refined images between four held-out images, whose reconstructions are in the corners.",
    }


def _between_draws(target: str, study: Study) -> dict[str, str]:
    model, pictures = study.model("vfa-gan"), {}
    for number in (1, 2):
        generator = torch.Generator().manual_seed(number)
        latent = model.prior(4, generator)
        labels = torch.randint(model.classes, (4,), generator=generator) if model.classes else None
        path = study.directory / f"{target}-{number}.png"
        interpolation_picture(model, latent, labels, path, title="between four draws from the prior")
        pictures[path.name] = f"Set {number}: refined images between four draws from the prior, in the corners."
    return pictures


def _table(study: Study) -> Table:
    others = ("fid", "class_agreement")
    taken = zip(others, measures_of(study, "refined", others), strict=True)
    names = ["classifier_fid", *(name for name, found in taken if found)]
    rows: dict[str, list[Any]] = {
        stage: [study.measure("vfa-gan", name, stage) for name in names]
        for stage in ("feature", "refined", "reference")
    }
    return Table([MEASURES[name].title for name in names], rows)


FIGURE_7 = _samples("fig7", "samples follow their class, and transitions in the latent space are continuous.", "MNIST")
FIGURE_9 = _interpolations("fig9", "transitions between random samples are continuous.", "CelebA")
FIGURE_11 = _samples("fig11", "samples are diverse, if less like the data than for the other data sets.", "CIFAR-10")
