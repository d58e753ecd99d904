"""What is trained for the paper's tables and figures, at each scale.

``paper`` is §4 of the paper as far as it is written down: the encoders of Tables 2-4, Adam at 1e-5, batches of
128, 10,000 images measured. It does not say how large the latent is, nor how long was trained: those are ours, as
are the readings where paper and published code disagree (the models' defaults).

``cpu`` is for a machine without a GPU: the recipe of ``falign quickstart``, narrower networks, a higher learning
rate, fewer steps. ``smoke`` trains next to nothing: it shows that everything runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

__all__ = ["PAPER_SETS", "SCALES", "Scale", "Setting", "paper_set", "setting"]

Scale: TypeAlias = Literal["smoke", "cpu", "paper"]
#: A data set of the paper, which another one is compared with.
PaperSet: TypeAlias = Literal["MNIST", "CIFAR-10", "CelebA"]

#: The paper's data sets, and the names under which they are loaded.
PAPER_SETS: dict[PaperSet, str] = {"MNIST": "mnist", "CIFAR-10": "cifar10", "CelebA": "celeba"}

#: Held-out images measured, and samples drawn, per scale.
SCALES: dict[Scale, int] = {"smoke": 100, "cpu": 1000, "paper": 10_000}


@dataclass(frozen=True)
class Setting:
    """One training.

    Attributes:
        model: name of its class.
        options: of the model, but for shape and classes of the images.
        batch_size: images a step.
        steps: of training.
        labels: whether the labels are used, where the data have some.
        images: held-out images measured.
    """

    model: str
    options: dict[str, Any]
    batch_size: int
    steps: int
    labels: bool
    images: int


def paper_set(name: str, shape: Sequence[int]) -> PaperSet:
    """Return the paper's data set that the images of this name and shape are to be compared with."""
    for paper, loaded in PAPER_SETS.items():
        if name == loaded:
            return paper
    if shape[0] == 1:
        return "MNIST"
    return "CelebA" if shape[1] > 32 else "CIFAR-10"


def setting(row: str, scale: Scale, name: str, shape: Sequence[int], count: int) -> Setting:
    """Return how to train the model of a row of Table 1.

    Args:
        row: ``ae``, ``vae``, ``gan``, ``vfa-gan``, ``local``, or ``vfa-2d`` (two latents, figure 5a).
        scale: how much.
        name: of the data set.
        shape: of its images.
        count: of its training images.
    """
    like = paper_set(name, shape)
    options = _paper(row, like, shape) if scale == "paper" else _cpu(row, shape)
    steps = 100 * (count // 128) if scale == "paper" else CPU_STEPS[row]
    batch_size = 128 if scale == "paper" else 64
    if scale == "smoke":
        steps, batch_size = 10, min(32, count)
        halvings = len(options["channels"])
        options |= {"channels": [4, 8, 8, 8][:halvings], "width": 32}
        options |= {"search_steps": 5} if row == "gan" else {}
        options |= {"refiner_filters": 4, "discriminator_width": 16} if row == "vfa-gan" else {}
    kind = {"vfa-gan": "VFAGAN", "vfa-2d": "VFA", "local": "Local"}.get(row, row.upper())
    return Setting(kind, options, batch_size, steps, row == "vfa-gan", SCALES[scale])


def _halvings(shape: Sequence[int]) -> int:
    """Return how often Tables 2, 3 and 4 halve the side: from 28 to 7, from 32 and from 64 to 4."""
    return 2 if shape[1] <= 28 else 3 if shape[1] <= 48 else 4


def _paper(row: str, like: PaperSet, shape: Sequence[int]) -> dict[str, Any]:
    halvings = _halvings(shape)
    options: dict[str, Any] = {
        "latent": 2 if row == "vfa-2d" else 128,
        "channels": [32, 64, 128, 256][:halvings],
        "width": 2048 if halvings == 3 else 4096,
        "learning_rate": 1e-5,
        "betas": [0.9, 0.999],
    }
    if row == "vfa-gan":
        options["perceptual_weight"] = {"MNIST": 0.01, "CIFAR-10": 0.0, "CelebA": 1.0}[like]
    return options


#: Steps of 64 images. On two cores and 28 x 28 pixels: half a minute to three minutes each.
CPU_STEPS = {"ae": 1500, "vae": 1500, "gan": 3000, "vfa-gan": 1500, "vfa-2d": 2000, "local": 1500}


def _cpu(row: str, shape: Sequence[int]) -> dict[str, Any]:
    halvings = _halvings(shape)
    options: dict[str, Any] = {
        "latent": 2 if row == "vfa-2d" else 32,
        "channels": [8, 16, 32, 64][:halvings],
        "width": 256,
        "learning_rate": 2e-3,
        "schedule": "cosine",
    }
    if row in ("ae", "vae"):
        options |= {"activation": "silu", "clip_gradient": 100.0}
    if row in ("vfa-gan", "vfa-2d"):
        options |= {
            "activation": "silu",
            "steps": 2,
            "step_size": 4.0,
            "learn_step_size": True,
            "squash": "every",
            "kl_warmup": 300,
            "beta": 0.7,
            "clip_gradient": 10.0,
        }
    if row == "vfa-gan":
        options |= {
            "class_weight": 30.0,
            "cross_entropy_weight": 10.0,
            "refiner_filters": 16,
            "refiner_kernel": 5,
            "discriminator_width": 128,
            "discriminator_rate": 0.5,
            "perceptual_weight": 1.0,
        }
    if row == "gan":
        options |= {"activation": "silu", "learning_rate": 1e-3, "search_steps": 100, "search_restarts": 2}
    return options
