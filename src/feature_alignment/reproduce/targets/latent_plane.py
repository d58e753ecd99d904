"""Figure 5a: the latent space of two neurons."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ...report import charts, one_of_each
from ..result import Result, Table
from ..study import Study, cell
from .target import Target

__all__ = ["FIGURE_5A", "neighbours_agree"]


def _make(study: Study) -> Result:
    images, labels = one_of_each(study.test, 1000)
    means = study.model("vfa-2d").encode(images).cpu()
    path, title = study.directory / "fig5a.png", "held-out images, two latent neurons"
    charts.scatter(means, labels, study.test.classes, path, title=title)
    rows: dict[str, list[Any]] = {} if labels is None else _agreement(study, images, labels)
    rows["reconstruction error"] = [study.measure("vfa-2d", "reconstruction_error", "feature")]
    unlabelled = ["This data set has no labels: whether the clusters mean anything is for the eye."]
    return Result(
        "fig5a",
        "latent space of two neurons",
        "trained with two latent neurons, the network tends to cluster similar images.",
        Table(["measured"], rows),
        {"fig5a.png": "Posterior means of held-out images, coloured by class."},
        unlabelled if labels is None else [],
    )


def _agreement(study: Study, images: Tensor, labels: Tensor) -> dict[str, list[Any]]:
    latents = [study.run("vfa-2d", seed).model().encode(images).cpu() for seed in study.seeds]
    chance = float(torch.bincount(labels).double().div(len(labels)).square().sum())
    return {
        "share of the ten nearest latents that are of an image's own class": [
            cell([neighbours_agree(each, labels) for each in latents])
        ],
        "the same by chance": [chance],
    }


def neighbours_agree(points: Tensor, labels: Tensor, count: int = 10) -> float:
    """Return the mean share of each point's ``count`` nearest that have its label.

    Example:
        >>> neighbours_agree(torch.tensor([[0.0], [1.0], [5.0], [6.0]]), torch.tensor([0, 0, 1, 1]), 1)
        1.0
    """
    distances = torch.cdist(points.double(), points.double()).fill_diagonal_(torch.inf)
    nearest = distances.topk(min(count, len(points) - 1), largest=False).indices
    return float((labels[nearest] == labels[:, None]).double().mean())


FIGURE_5A = Target(_make, ("vfa-2d",), "MNIST")
