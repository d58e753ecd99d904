"""Figures 6, 8 and 10: held-out images reconstructed by every model."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ...metrics import MEASURES
from ...report import one_of_each, sheets
from ..result import Result, Table
from ..settings import PaperSet
from ..study import Study
from .methods import ALL, GIVEN_LABEL, METHODS, measures_of
from .target import Target

__all__ = ["FIGURE_6", "FIGURE_8", "FIGURE_10"]


def _target(name: str, claim: str, like: PaperSet) -> Target:
    return Target(lambda study: _make(name, claim, study), ALL, like)


def _make(target: str, claim: str, study: Study) -> Result:
    path = study.directory / f"{target}.png"
    sheets.pairs(_versions(study), path, title=f"{study.name}, held-out images")
    names = ["reconstruction_error", "psnr", "ssim"]
    rows: dict[str, list[Any]] = {method: measures_of(study, method, names) for method in METHODS}
    rows["mean image"] = [study.measure("ae", name, "reference") for name in names]
    return Result(
        target,
        "reconstructions of held-out images",
        claim,
        Table([MEASURES[name].title for name in names], rows),
        {f"{target}.png": "Held-out images and what each model makes of them; the GAN by a search in its latents."},
        [GIVEN_LABEL] if study.model("vfa-gan").classes else [],
    )


def _versions(study: Study) -> dict[str, Tensor]:
    images, labels = one_of_each(study.test, 10)
    versions = {"original": images}
    for method, (name, stage) in METHODS.items():
        model = study.model(name)
        given = labels if model.classes else None
        decoded = model.reconstruct(images, given)
        versions[method] = model.refine(decoded, given) if stage == "refined" else decoded
    return versions


FIGURE_6 = _target(
    "fig6", "the features are noisy; the refiner sharpens them, so that they resemble the originals better.", "MNIST"
)
FIGURE_8 = _target(
    "fig8",
    "features and refined images resemble the faces; without the perceptual loss the refiner fails to converge.",
    "CelebA",
)
FIGURE_10 = _target(
    "fig10",
    "the features come near the originals; the refined images less so, as their loss is adversarial only.",
    "CIFAR-10",
)
