"""One training of a comparison, from its settings to the content of its entry."""

from __future__ import annotations

import math
import os
import platform
import shutil
from typing import Any

import torch
from lightning_fabric import seed_everything
from safetensors.torch import load_file

from ... import __version__, models
from ...files import write_atomically
from ...models import Model
from ...report import commit
from ...training import Diverged, Run, TrainingError, TrainingOptions, fit
from .entries import Entry
from .settings import Method
from .splits import Given, Split

__all__ = ["built", "facts", "loaded", "settings_of", "train", "without_nan"]


def settings_of(entry: Entry, method: Method, batch_size: int, split: Split) -> dict[str, Any]:
    """Return the settings of a training, all that its result depends on."""
    chosen = {"latent": entry.latent, "learning_rate": entry.learning_rate, "activation": entry.activation}
    return {
        "model": method.model,
        "options": method.options | chosen | entry.options,
        "labels": method.labels,
        "batch_size": batch_size,
        "updates": entry.updates,
        "seed": entry.seed,
        "train_images": len(split.train),
        "held_out_images": len(split.held_out),
        "held_out_of": split.held_out.split,
    }


def built(settings: dict[str, Any], split: Split) -> tuple[Model, Given]:
    """Return the model of the settings at its initial weights, and its training data."""
    data = Given(split.train, settings["batch_size"], settings["labels"])
    seed_everything(settings["seed"], verbose=False)
    classes = {"classes": data.classes} if data.classes else {}
    model: Model = getattr(models, settings["model"])(image_shape=data.image_shape, **classes, **settings["options"])
    return model, data


def train(settings: dict[str, Any], split: Split, run: Run) -> tuple[Model | None, dict[str, Any]]:
    """Train a model in a run directory, or continue its training.

    Returns:
        The trained model, none if a loss became infinite; and ``steps``, ``seconds`` and ``device`` of the training,
        or ``diverged``, the message about the loss.
    """
    model, data = built(settings, split)
    asked = repr(settings) + "\n"
    if run.config.is_file() and run.config.read_text() != asked:
        shutil.rmtree(run.directory)  # an unfinished training with other settings
    write_atomically(run.config, asked)
    options = TrainingOptions(
        steps=settings["updates"], seed=settings["seed"], devices=1, log_every=50, checkpoint_every=250
    )
    try:
        done = fit(model, data, run, options, resume=run.checkpoint.is_file())
    except Diverged as error:
        return None, {"diverged": str(error).partition(";")[0]}
    if not all(each.isfinite().all() for each in model.parameters()):
        return None, {"diverged": "the weights are not finite"}
    return model.to("cuda" if torch.cuda.is_available() else "cpu"), done


def loaded(settings: dict[str, Any], split: Split, run: Run) -> Model:
    """Return the model of a finished training; the sampler it was saved with may be another version's."""
    model, _ = built(settings, split)
    saved = load_file(run.directory / "model.safetensors")
    different = model.load_state_dict({name: each for name, each in saved.items() if not _of_sampler(name)}, False)
    wrong = [name for name in (*different.missing_keys, *different.unexpected_keys) if not _of_sampler(name)]
    if wrong:
        raise TrainingError(
            f"{run.directory}: weights of another version, {', '.join(wrong[:3])} do not fit; remove it"
        )
    return model.to("cuda" if torch.cuda.is_available() else "cpu").eval()


def _of_sampler(name: str) -> bool:
    return name.startswith("sampler")


def facts(model: Model) -> dict[str, Any]:
    """Return the numbers of parameters that are trained, and the provenance of an entry."""
    trained = {name: each.numel() for name, each in model.named_parameters() if each.requires_grad}
    judging = sum(count for name, count in trained.items() if name.startswith("discriminator"))
    return {
        "parameters": {"model": sum(trained.values()) - judging, "discriminator": judging},
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, PyTorch {torch.__version__}",
        "version": __version__,
        "commit": commit(),
    }


def without_nan(value: Any) -> Any:
    """Return nested dictionaries with none in place of every number that is not finite.

    Example:
        >>> without_nan({"a": {"b": float("nan"), "c": 1.5}})
        {'a': {'b': None, 'c': 1.5}}
    """
    if isinstance(value, dict):
        return {name: without_nan(each) for name, each in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
