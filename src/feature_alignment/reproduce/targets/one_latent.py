"""Figure 5b: one latent under every class."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ...data import DataError
from ...models import Model
from ...report import one_of_each, sheets
from ..result import Result, Table
from ..study import Study
from .target import Target

__all__ = ["FIGURE_5B"]

#: Values of the one-hot vector's one.
STRESSES = (0.5, 1.0, 2.0, 4.0)
#: Held-out images whose latents are shown.
LATENTS = 5


def _make(study: Study) -> Result:
    if not study.train.classes:
        raise DataError(f"fig5b: needs a data set with classes, {study.name} has none")
    model = study.model("vfa-gan")
    _draw(study, model, model.encode(one_of_each(study.test, LATENTS)[0]), min(model.classes, 20))
    rows: dict[str, list[Any]] = {
        f"samples named as the class asked for, {stage}": [study.measure("vfa-gan", "class_agreement", stage)]
        for stage in ("feature", "refined", "reference")
    }
    return Result(
        "fig5b",
        "one latent under every class",
        "with a fixed latent vector, the class vector alone makes images of every class.",
        Table(["share"], rows),
        {
            "fig5b.png": "Features; a row is the latent of one held-out image, a column a class.",
            "fig5b-refined.png": "The same, refined.",
            "fig5b-stress.png": "The first row's latent with a class vector of other sizes (the stress factor).",
        },
        ["'reference' is the classifier's share on held-out images."],
    )


def _draw(study: Study, model: Model, latent: Tensor, classes: int) -> None:
    labels = torch.arange(classes).repeat(LATENTS)
    features = model.decode(latent.repeat_interleave(classes, 0), labels)
    names = study.test.classes[:classes]
    for name, images in (("fig5b", features), ("fig5b-refined", model.refine(features, labels))):
        shown = images.unflatten(0, (LATENTS, classes))
        sheets.grid(shown, study.directory / f"{name}.png", columns=names, title=f"{study.name}")
    first = latent[:1].expand(classes, -1)
    sheets.grid(
        torch.stack([model.decode(first, labels[:classes], each) for each in STRESSES]),
        study.directory / "fig5b-stress.png",
        columns=names,
        rows=[f"{each:g}" for each in STRESSES],
        title="value of the one-hot vector's one",
    )


FIGURE_5B = Target(_make, ("vfa-gan",), "MNIST")
