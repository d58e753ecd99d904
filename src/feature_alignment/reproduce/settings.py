"""Settings of the trainings for the paper's tables and figures: the bundled configurations, adapted to the images.

The scale ``paper`` follows §4 of the paper and its published code (``configs/paper``): the encoders of Tables 2-4,
10,000 images measured. ``cpu`` (``configs/cpu``) is for a machine without a GPU: narrower networks, a higher learning
rate, fewer updates. ``smoke`` trains for ten updates, to check that everything runs. At each of them the paper's model
with refiner, which flows from a shared start, stands beside this library's, which computes its start layer by layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import yaml

__all__ = ["PAPER_SETS", "SCALES", "PaperSet", "Scale", "Setting", "paper_set", "setting"]

Scale: TypeAlias = Literal["smoke", "cpu", "paper"]
#: A data set of the paper; results on any other data set are compared with those on one of these.
PaperSet: TypeAlias = Literal["MNIST", "CIFAR-10", "CelebA"]

#: The paper's data sets, and the names under which they are loaded.
PAPER_SETS: dict[PaperSet, str] = {"MNIST": "mnist", "CIFAR-10": "cifar10", "CelebA": "celeba"}

#: Held-out images measured, and samples drawn, per scale.
SCALES: dict[Scale, int] = {"smoke": 100, "cpu": 1000, "paper": 10_000}

CONFIGS = Path(__file__).parents[1] / "configs"
#: The paper's settings of the model with refiner and a shared start, by data set; every other model has one setting.
SHARED: dict[PaperSet, str] = {"MNIST": "paper/vfa-gan", "CIFAR-10": "paper/cifar10", "CelebA": "paper/celeba"}
#: Filters per halving of Tables 2 to 4, and their narrow counterparts; the width of the encoder's output by halvings.
FILTERS: dict[Scale, list[int]] = {"paper": [32, 64, 128, 256], "cpu": [8, 16, 32, 64], "smoke": [4, 8, 8, 8]}
WIDTHS = {2: 4096, 3: 2048, 4: 4096}
#: Images with a longer side than this have twice the bound on a step that the configurations have.
LARGE = 32


@dataclass(frozen=True)
class Setting:
    """The setting of one training.

    Attributes:
        model: name of the model's class.
        options: of the model, without image shape and number of classes.
        batch_size: images per update.
        steps: number of updates.
        labels: whether the labels are used, if the data set has any.
        images: number of held-out images measured.
    """

    model: str
    options: dict[str, Any]
    batch_size: int
    steps: int
    labels: bool
    images: int


def paper_set(name: str, shape: Sequence[int]) -> PaperSet:
    """Return the data set of the paper with which results on a set of this name and image shape are compared."""
    for paper, loaded in PAPER_SETS.items():
        if name == loaded:
            return paper
    if shape[0] == 1:
        return "MNIST"
    return "CelebA" if shape[1] > 32 else "CIFAR-10"


def setting(model: str, scale: Scale, name: str, shape: Sequence[int], count: int) -> Setting:
    """Return the setting of a model's training.

    Args:
        model: ``ae``, ``vae``, ``gan``, ``shared`` (the paper's model with refiner, from a shared start), ``vfa-gan``
            (this library's), ``local``, or ``vfa-2d`` (two latents, figure 5a).
        scale: ``smoke``, ``cpu`` or ``paper``.
        name: of the data set.
        shape: of its images.
        count: of its training images.
    """
    like = paper_set(name, shape)
    config = _config(_file(model, scale, like))
    kind, options = config["model"]["class_path"].rpartition(".")[2], dict(config["model"]["init_args"])
    steps, batch_size = config["training"]["steps"], config["data"].get("batch_size", 128)
    halvings = _halvings(shape)
    options["channels"] = FILTERS[scale][:halvings]
    if scale == "paper":
        options |= {"width": WIDTHS[halvings]} | ({"latent": 2} if model == "vfa-2d" else {})
        steps = _config(SHARED[like])["training"]["steps"]  # as many for every model
    if scale == "smoke":
        steps, batch_size = 10, min(32, count)
        small = {"width": 32, "search_steps": 5, "refiner_filters": 4, "discriminator_width": 16}
        options |= {option: value for option, value in small.items() if option in options}
    if shape[1] > LARGE and options.get("start") == "layers":
        if options.get("max_step") is not None:
            options["max_step"] *= 2
        if "perceptual_weight" in options:
            options["perceptual_weight"] = 1.0  # with 0.3 the refiner draws false colours
    return Setting(kind, options, batch_size, steps, model in ("shared", "vfa-gan"), SCALES[scale])


def _file(model: str, scale: Scale, like: PaperSet) -> str:
    """Return the name of a model's configuration."""
    if scale != "paper":
        return f"cpu/{model}"
    return {"shared": SHARED[like], "vfa-gan": "vfa-gan", "vfa-2d": "paper/vfa"}.get(model, f"paper/{model}")


def _config(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())
    return found


def _halvings(shape: Sequence[int]) -> int:
    """Return the number of halvings of the side in Tables 2, 3 and 4: from 28 to 7, from 32 and from 64 to 4."""
    return 2 if shape[1] <= 28 else 3 if shape[1] <= 48 else 4
