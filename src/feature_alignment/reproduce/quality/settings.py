"""What is compared: the models, their options and the search, read from ``configs/quality``."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import torch
import yaml

from ... import models
from ...models.model import Model
from ...training import TrainingError
from ..settings import CONFIGS

__all__ = ["CRITERIA", "Criterion", "Method", "Plan", "QualityScale", "plan"]

QualityScale: TypeAlias = Literal["smoke", "cpu"]
Criterion: TypeAlias = Literal["reconstruction_error", "elbo", "classifier_fid"]
#: What a search may minimise.
CRITERIA = ("reconstruction_error", "elbo", "classifier_fid")


@dataclass(frozen=True)
class Method:
    """A model that is compared.

    Attributes:
        name: on the command line and in the names of entries.
        title: in pictures.
        model: name of its class.
        criterion: what its search minimises on the images held out from training.
        labels: whether it is given the labels, if the data set has any.
        reconstructed: number of held-out images to reconstruct; none for all.
        samplers: names of the samplers compared; none for all.
        options: of the model, without image shape, number of classes, latent size, learning rate and activation.
    """

    name: str
    title: str
    model: str
    criterion: Criterion
    labels: bool = False
    reconstructed: int | None = None
    samplers: tuple[str, ...] | None = None
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """The settings of a comparison on images of one size.

    Attributes:
        methods: by name, in the order of the table.
        batch_size: images per update.
        updates, long: number of updates, and of those of the long trainings.
        latents: sizes in the table.
        search: ``latent``, ``seed``, the values of ``learning_rate`` and ``activation``; ``updates`` if fewer.
        latent: size for the curves over ``betas``, the comparison at equal wall time and the long trainings.
        betas: weights of the KL divergence.
        wall_times: in multiples of the time of the autoencoder's ``updates``.
        images: largest number of held-out images measured; none for all.
    """

    methods: dict[str, Method]
    batch_size: int
    updates: int
    long: int
    latents: tuple[int, ...]
    search: dict[str, Any]
    latent: int
    betas: tuple[float, ...]
    wall_times: tuple[float, ...]
    images: int | None = None


def plan(scale: QualityScale, shape: Sequence[int], names: Sequence[str] = ()) -> Plan:
    """Return the settings for images of a shape.

    Args:
        scale: ``cpu``, or ``smoke`` to see that everything runs.
        shape: ``(C, H, W)`` of the images.
        names: of the models to compare; by default all that this version has.

    Raises:
        TrainingError: an unknown name, a model that this version does not have, or images larger than the settings
            provide for.
    """
    found = _read("cpu") | (_read(scale) if scale != "cpu" else {})
    if unknown := [name for name in names if name not in found["models"]]:
        raise TrainingError(f"--models {unknown[0]}: expected some of {', '.join(found['models'])}")
    side = max(shape[1:])
    sizes = [size for size in found["sizes"] if side <= size["up_to"]]
    if not sizes:
        raise TrainingError(
            f"quality: has settings for images up to {found['sizes'][-1]['up_to']} pixels wide, these have {side}"
        )
    methods: dict[str, Method] = {}
    for name in names or found["models"]:
        method = _method(name, found, sizes[0])
        missing = _missing(method, shape)
        if missing and names:
            raise TrainingError(f"--models {name}: {missing}")
        if missing:
            print(f"{name}: left out, {missing}", flush=True)
        else:
            methods[name] = method
    return Plan(
        methods,
        sizes[0]["batch_size"],
        found["updates"],
        found["long"],
        tuple(found["latents"]),
        found["search"],
        found["latent"],
        tuple(found["betas"]),
        tuple(found["wall_times"]),
        found.get("images"),
    )


def _read(scale: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((CONFIGS / "quality" / f"{scale}.yaml").read_text())
    return found


def _method(name: str, found: dict[str, Any], size: dict[str, Any]) -> Method:
    given = dict(found["models"][name])
    common = _known(given["model"], found["options"] | size["options"])
    of_size = {option: value for group in given.pop("size", []) for option, value in size[group].items()}
    own = given.pop("options", {})
    return Method(name, options=common | of_size | own | _known(given["model"], found.get("small", {})), **given)


def _known(model: str, options: dict[str, Any]) -> dict[str, Any]:
    """Return those of the options that the model has: a model that is one decoder has none of an encoder."""
    kind: type[Model] | None = getattr(models, model, None)
    known = () if kind is None else {field.name for field in dataclasses.fields(kind.Options)}
    return {name: value for name, value in options.items() if name in known}


def _missing(method: Method, shape: Sequence[int]) -> str | None:
    """Return why this version cannot build a model, in a line; none if it can."""
    kind: type[Model] | None = getattr(models, method.model, None)
    if kind is None:
        return f"this version has no model {method.model}"
    try:
        model = kind(image_shape=shape, classes=2 if method.labels else 0, latent=2, **method.options)
    except (TypeError, ValueError) as error:
        return f"this version's {method.model} refuses its options ({error})"
    if method.labels:
        one, other = model.decode(torch.zeros(2, 2), torch.tensor([0, 1]))
        if torch.equal(one, other):
            return f"this version's {method.model} ignores the labels"
    return None
