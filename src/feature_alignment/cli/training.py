"""A training from its options to its report, for the commands that train."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml
from lightning_fabric import seed_everything

from ..data import DataError, DataOptions, Images, TrainingData, folders_read
from ..files import write_atomically
from ..models import Model
from ..report import write_report
from ..training import Run, TrainingError, TrainingOptions, fit
from ..training.processes import disconnect, is_first_process
from ..training.stopping import Stopped, interruptible
from .configuration import to_yaml
from .errors import UsageError, one_line
from .outputs import refuse_within
from .summary import print_summary
from .typed import TypedOptions

__all__ = ["checked", "train"]


def train(kind: type[Model], options: Any, typed: TypedOptions, out: Path, *, resume: bool) -> None:
    """Train a model, evaluate it on held-out images, and print a summary.

    Args:
        kind: the model's class.
        options: parsed by ``typed``: the sections ``data``, ``training`` and ``model``.
        typed: instantiates options that are modules.
        out: run directory; empty unless ``resume``.
        resume: continue from the newest checkpoint in ``out``.

    Raises:
        Stopped: by Ctrl-C, SIGTERM or SIGHUP, with the command that goes on.
        UsageError: ``out`` is not empty or in the data set's folder, or an option of the model is out of range.
    """
    run = Run(out)
    if not is_first_process():
        with suppress(Stopped):  # which the first process reports
            _fitted(kind, options, typed, run, resume=resume)
        return
    if not resume or not run.begun():
        _check_new(run, options.data.name)
    with run.locked(), _interruptible(run, to_yaml(kind, options)):
        model, data, test, done = _fitted(kind, options, typed, run, resume=resume)
        print(f"Evaluating on {len(test):,} held-out images and drawing", flush=True)
        write_report(run, model, data.train, test, done, options.training.seed)
        print_summary(run)


@contextmanager
def _interruptible(run: Run, asked: str) -> Iterator[None]:
    """Stop on a signal at any time, with the command that goes on once the configuration ``asked`` for is written."""
    try:
        with interruptible(f"{run.directory}: stopped"):
            yield
    except Stopped as stopped:
        if not run.config.is_file() or run.config.read_bytes() != asked.encode():
            raise Stopped(f"{run.directory}: stopped before it began", stopped.signal) from None
        command = f"falign train --out {shlex.quote(str(run.directory))} --resume"
        raise Stopped(f"{stopped}, go on with --resume: {command}", stopped.signal) from None


def _fitted(
    kind: type[Model], options: Any, typed: TypedOptions, run: Run, *, resume: bool
) -> tuple[Model, TrainingData, Images, dict[str, Any]]:
    """Return the trained model, its data, the held-out images, and what ``fit`` returned."""
    training, chosen = checked(options)
    seed_everything(training.seed, verbose=False)
    data, model = _built(kind, typed.instantiate(options), chosen)
    test = data.test()  # before the training: a data set without held-out images is refused
    if resume and run.checkpoints:
        _refuse_other_modules(run, kind, options)
    if is_first_process():
        _announce(run, model, data, training)

    def write_configuration() -> None:
        write_atomically(run.config, to_yaml(kind, options))
        run.note_images([data.train, test])

    done = fit(model, data, run, training, resume=resume, accepted=write_configuration)
    disconnect()
    return model, data, test, done


def _refuse_other_modules(run: Run, kind: type[Model], options: Any) -> None:
    """Refuse to resume with another module of the user's own, whose weights may fit by chance."""
    before = run.settings().get("model", {}).get("init_args", {})
    now = yaml.safe_load(to_yaml(kind, options))["model"]["init_args"]
    known = {field.name for field in dataclasses.fields(kind.Options)}
    for name in now.keys() - known:
        if name in before and before[name] != now[name]:
            raise UsageError(
                f"--model.{name}: was {one_line(before[name])} and is now {one_line(now[name])}; it defines the "
                "network whose weights the checkpoint holds: take that one, or start a new run"
            )


def _built(kind: type[Model], options: Any, chosen: DataOptions) -> tuple[TrainingData, Model]:
    with _named("data"):
        data = TrainingData(chosen)
    try:
        model = kind(image_shape=data.image_shape, classes=data.classes, **vars(options.model))
    except ValueError as error:
        raise UsageError(f"--model {kind.__name__}: {error}") from None
    return data, model


def checked(options: Any) -> tuple[TrainingOptions, DataOptions]:
    """Return the options of training and data.

    Raises:
        UsageError: one is out of range.
    """
    with _named("training"):
        training = TrainingOptions(**options.training.as_dict())
    with _named("data"):
        return training, DataOptions(**options.data.as_dict())


@contextmanager
def _named(section: str) -> Iterator[None]:
    """Call an option of the section, in the error that it is out of range, as the command line calls it."""
    known = {field.name for field in dataclasses.fields(TrainingOptions if section == "training" else DataOptions)}
    try:
        yield
    except (DataError, TrainingError) as error:
        if str(error).partition(":")[0] in known:
            raise UsageError(f"--{section}.{error}") from None
        raise


def _announce(run: Run, model: Model, data: TrainingData, training: TrainingOptions) -> None:
    print(
        f"Training {type(model).__name__} ({sum(each.numel() for each in model.parameters()):,} parameters) on "
        f"{len(data.train):,} images of {data.options.name}, {training.steps:,} updates on {data.batch_size} images "
        f"each, into {run.directory}",
        flush=True,
    )


def _check_new(run: Run, data: str) -> None:
    """Refuse a directory where a run would overwrite files, or its pictures would become images of the data set."""
    directory = run.directory
    if directory.exists() and not directory.is_dir():
        raise UsageError(f"--out {directory}: is a file, expected a directory")
    if run.exists():
        what = "continue that run with --resume, or " if run.begun() else ""
        raise UsageError(f"--out {directory}: is not empty; {what}choose another directory")
    refuse_within("--out", directory, folders_read(data))
