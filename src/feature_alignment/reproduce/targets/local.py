"""Figures 13 to 15: reconstruction by local feature alignment."""

from __future__ import annotations

from typing import Any

from ...metrics import MEASURES
from ...report import one_of_each, sheets
from ..result import Result, Table
from ..settings import PaperSet
from ..study import Study
from .target import Target

__all__ = ["FIGURE_13", "FIGURE_14", "FIGURE_15"]


def _target(name: str, like: PaperSet) -> Target:
    return Target(lambda study: _make(name, study), ("local",), like)


def _make(target: str, study: Study) -> Result:
    model = study.model("local")
    images, _ = one_of_each(study.test, 20)
    versions = {"reconstruction": model.reconstruct(images), "original": images}
    sheets.pairs(versions, study.directory / f"{target}.png", title=f"{study.name}, local feature alignment")
    names = ["reconstruction_error", "psnr", "ssim"]
    rows: dict[str, list[Any]] = {
        "local": [study.measure("local", name, "feature") for name in names],
        "mean image": [study.measure("local", name, "reference") for name in names],
    }
    return Result(
        target,
        "reconstruction by local feature alignment",
        "layers that learn only to predict their own inputs still reconstruct the image.",
        Table([MEASURES[name].title for name in names], rows),
        {f"{target}.png": "Held-out images: reconstruction above, original below."},
        [f"The latent has {model.latent} numbers, the image {images[0].numel()}."],
    )


FIGURE_13 = _target("fig13", "MNIST")
FIGURE_14 = _target("fig14", "CIFAR-10")
FIGURE_15 = _target("fig15", "CelebA")
