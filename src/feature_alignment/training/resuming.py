"""Options that change when a training is resumed: applied, or refused by name with the reason."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from ..data import Images, TrainingData
from ..files import write_atomically
from ..models import Model
from .fingerprint import fingerprint
from .options import TrainingError, TrainingOptions

__all__ = ["APPLIED", "REFUSED", "asked", "belongs_to", "refuse_changes"]

#: Options that may change between two parts of a training, by section: nothing of theirs is in the restored state.
#: Of the data, where and how the images are found is free: the images themselves are compared.
APPLIED = {
    "training": {
        "steps", "accelerator", "devices", "strategy", "precision", "compile", "log_every", "checkpoint_every",
        "checkpoint_seconds", "max_seconds",
    },
    "data": {"name", "strict", "image", "label", "image_size", "channels", "labels", "config", "white"},
    "model": {
        "learning_rate", "betas", "schedule", "clip_gradient", "recompute", "clamp_inputs", "clamp_weights", "beta",
        "kl_warmup", "max_log_variance", "class_weight", "cross_entropy_weight", "adversarial", "critic_clip",
        "penalty_weight", "discriminator_rate", "refiner_rate", "fakes", "perceptual_weight", "perceptual_spread",
        "adversarial_weight", "further_steps", "decode_steps", "max_start", "augment", "loss", "sampler",
        "search_steps", "search_rate", "search_restarts",
    },
}  # fmt: skip

#: Images of which the pixels are read at once.
PART = 4096

#: Why other options may not change, by section; an option that is in no list is refused.
REFUSED = {
    "training": "order and noise of the updates done are functions of it",
    "data": "the position in the data is counted in batches, those of all processes together",
    "model": "it defines the network whose weights the checkpoint holds",
}


def asked(model: Model, data: TrainingData, options: TrainingOptions, processes: int) -> dict[str, Any]:
    """Return the options of a training for its checkpoints: plain values, by section.

    Args:
        model, data, options: of the training.
        processes: their number; ``data.batch_size`` is that of all of them together.
    """
    return {
        "kind": type(model).__name__,
        "images": fingerprint(data.train if data.classes else dataclasses.replace(data.train, labels=None)),
        "pixels": _digest(data.train.pixels),
        "training": _plain(dataclasses.asdict(options)),
        "data": _plain(dataclasses.asdict(data.options)) | {"batch_size": data.batch_size * processes},
        "model": _plain(dataclasses.asdict(model.options)),
    }


def _plain(options: Any) -> Any:
    return json.loads(json.dumps(options, default=str))


def _digest(pixels: Tensor) -> str:
    """Return a digest of all pixels, read in parts: they may be more than the memory holds."""
    digest = hashlib.sha256()
    for part in pixels.split(PART):
        digest.update(part.contiguous().numpy())
    return digest.hexdigest()[:12]


def belongs_to(directory: Path, images: Images) -> None:
    """Let a directory of trainings belong to a data set, by the fingerprint of its training images, if it does not yet.

    Raises:
        TrainingError: it belongs to another, of the same name.
    """
    path, asked = directory / "images.txt", fingerprint(images)
    if not path.is_file():
        write_atomically(path, asked + "\n")
    elif (found := path.read_text().strip()) != asked:
        raise TrainingError(f"{directory}: has the results of {found}, not of {asked}; choose another --out")


def refuse_changes(path: Path, state: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuse to resume with an option whose change could not be applied.

    Args:
        path: of the checkpoint, for the message.
        state: its content.
        now: the options of the training, by :func:`asked`.

    Raises:
        TrainingError: names the option, both values and the reason.
    """
    before, done = state["asked"], state["updates"]
    if before["kind"] != now["kind"]:
        raise TrainingError(f"{path}: a checkpoint of another model ({before['kind']}, not {now['kind']})")
    if now["training"]["steps"] < done:
        steps = now["training"]["steps"]
        raise TrainingError(f"{path}: training.steps: expected at least the {done} updates done, got {steps}")
    _refuse(path, "training", before, now)
    _refuse(path, "data", before, now)
    for part in ("images", "pixels"):
        if before.get(part, now[part]) != now[part]:  # none in a checkpoint of before
            raise TrainingError(
                f"{path}: data.name {now['data']['name']}: the updates done saw other images "
                f"({before[part]}) than these ({now[part]}); take those, or start a new run"
            )
    _refuse(path, "model", before, now)


def _refuse(path: Path, section: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    for option, value in now[section].items():
        old = before[section].get(option, value)
        if old != value and option not in APPLIED[section]:
            raise TrainingError(
                f"{path}: {section}.{option} was {old} and is now {value}; {REFUSED[section]}: take {old}, or start a "
                "new run"
            )
