"""A training from its options to its report, for the commands that train."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from lightning_fabric import seed_everything

from ..data import DataOptions, TrainingData
from ..models import Model
from ..report import write_report
from ..training import Run, TrainingOptions, fit
from .configuration import to_yaml
from .errors import UsageError
from .summary import print_summary
from .typed import TypedOptions

__all__ = ["train"]


def train(kind: type[Model], options: Any, typed: TypedOptions, out: Path, *, resume: bool) -> None:
    """Train a model, evaluate it on held-out images, and print a summary.

    Args:
        kind: the model's class.
        options: parsed by ``typed``: the sections ``data``, ``training`` and ``model``.
        typed: instantiates options that are modules.
        out: run directory; empty unless ``resume``.
        resume: continue from the newest checkpoint in ``out``.

    Raises:
        UsageError: ``out`` is not empty, or an option of the model is out of range.
    """
    run, first = Run(out), _is_first_process()
    if first and not resume:
        _check_new(run)
    seed_everything(options.training.seed, verbose=False)
    data, model, training = _built(kind, typed.instantiate(options))
    asked = to_yaml(kind, options)
    run.directory.mkdir(parents=True, exist_ok=True)
    if first and not resume:  # a run that turns out not to be resumable must keep its configuration
        run.config.write_text(asked)
    if first:
        _announce(run, model, data, training)
    done = fit(model, data, run, training, resume=resume)
    if not first:
        return
    run.config.write_text(asked)
    test = data.test()
    print(f"Evaluating on {len(test):,} held-out images and drawing", flush=True)
    write_report(run, model, data.train, test, done, training.seed)
    print_summary(run)


def _built(kind: type[Model], options: Any) -> tuple[TrainingData, Model, TrainingOptions]:
    training = TrainingOptions(**options.training.as_dict())
    data = TrainingData(DataOptions(**options.data.as_dict()))
    try:
        model = kind(image_shape=data.image_shape, classes=data.classes, **vars(options.model))
    except ValueError as error:
        raise UsageError(f"--model {kind.__name__}: {error}") from None
    return data, model, training


def _announce(run: Run, model: Model, data: TrainingData, training: TrainingOptions) -> None:
    print(
        f"Training {type(model).__name__} ({sum(each.numel() for each in model.parameters()):,} parameters) on "
        f"{len(data.train):,} images of {data.options.name}, {training.steps:,} updates on {data.batch_size} images "
        f"each, into {run.directory}",
        flush=True,
    )


def _check_new(run: Run) -> None:
    directory = run.directory
    if directory.exists() and not directory.is_dir():
        raise UsageError(f"--out {directory}: is a file, expected a directory")
    if run.exists():
        raise UsageError(
            f"--out {directory}: is not empty; continue that run with --resume, or choose another directory"
        )


def _is_first_process() -> bool:
    """Whether this is the first of the processes of a distributed training, which all have the same arguments."""
    return int(os.environ.get("LOCAL_RANK", "0")) == 0 and int(os.environ.get("NODE_RANK", "0")) == 0
