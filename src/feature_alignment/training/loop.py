"""Training a model into a run directory: log, checkpoints, progress, continuation."""

from __future__ import annotations

import csv
import json
import logging
import math
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import pytorch_lightning as pl
import torch
import yaml
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger
from pytorch_lightning.strategies import DDPStrategy
from torch import nn
from tqdm import tqdm

from ..data.images import DataModule
from ..models.base import Model

__all__ = ["Run", "TrainingError", "TrainingOptions", "fit"]


class TrainingError(Exception):
    """A training that cannot start or go on; the message is one line for the user."""


@dataclass
class TrainingOptions:
    """How to train.

    Attributes:
        steps: batches to train on.
        seed: of initialisation, order of the images and noise.
        accelerator: ``auto``, ``cpu``, ``gpu``, ...
        devices: number of devices, or ``auto``.
        precision: of the arithmetic, as Lightning names it: ``32-true``, ``bf16-mixed``, ...; or ``tf32``, which is
            32-true with products of matrices in TensorFloat-32 on a GPU that has it.
        compile: how ``torch.compile`` is to speed up the training step, none for not at all: ``default``, or
            ``reduce-overhead`` (CUDA graphs) and ``max-autotune`` for a GPU.
        log_every: steps between two lines of the log.
        checkpoint_every: steps between two checkpoints.
        max_seconds: stop early after so many seconds of training; none for no limit.
    """

    steps: int = 20_000
    seed: int = 0
    accelerator: str = "auto"
    devices: int | str = "auto"
    precision: str = "32-true"
    compile: Literal["default", "reduce-overhead", "max-autotune"] | None = None
    log_every: int = 10
    checkpoint_every: int = 500
    max_seconds: float | None = None

    def __post_init__(self) -> None:
        for name in ("steps", "log_every", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise TrainingError(f"{name}: expected at least 1, got {getattr(self, name)}")


@dataclass(frozen=True)
class Run:
    """The directory of one training and the places in it."""

    directory: Path

    @property
    def config(self) -> Path:
        """What ``falign train`` was asked to do."""
        return self.directory / "config.yaml"

    @property
    def checkpoint(self) -> Path:
        """The newest checkpoint, from which ``--resume`` goes on."""
        return self.directory / "checkpoints" / "last.ckpt"

    @property
    def log(self) -> Path:
        """The losses, a line every few steps."""
        return self.directory / "log.csv"

    @property
    def metrics(self) -> Path:
        """What was measured on held-out images."""
        return self.directory / "metrics.json"

    def exists(self) -> bool:
        """Whether something is there that a new training would overwrite; a configuration alone is nothing yet."""
        return self.directory.is_dir() and any(path != self.config for path in self.directory.iterdir())

    def settings(self) -> dict[str, Any]:
        """Return the run's configuration.

        Raises:
            TrainingError: there is none.
        """
        if not self.config.is_file():
            raise TrainingError(f"{self.directory}: not a run, there is no {self.config.name}")
        found: dict[str, Any] = yaml.safe_load(self.config.read_text())
        return found

    def results(self) -> dict[str, Any]:
        """Return what was measured."""
        found: dict[str, Any] = json.loads(self.metrics.read_text())
        return found

    def model(self) -> Model:
        """Load the trained model, in eval mode.

        Raises:
            TrainingError: the run has no model (yet).
        """
        try:
            return Model.from_pretrained(self.directory)
        except (FileNotFoundError, ValueError) as error:
            hint = "; it was not trained to its end, continue with --resume" if self.checkpoint.is_file() else ""
            raise TrainingError(f"{error}{hint}") from None

    def rows(self) -> list[dict[str, float]]:
        """Return the log, a dictionary of numbers per line, without the steps that a continuation did again."""
        kept: list[dict[str, float]] = []
        for part in sorted(self.directory.glob("log/part-*/metrics.csv"), key=lambda path: int(path.parent.name[5:])):
            with part.open(newline="") as file:
                rows = [
                    {name: float(value) for name, value in row.items() if value not in ("", None)}
                    for row in csv.DictReader(file)
                ]
            if rows:
                kept = [row for row in kept if row["step"] < rows[0]["step"]] + rows
        return kept


class _Progress(pl.Callback):
    """One bar over all steps, the seconds trained, and a stop where a loss is no longer a number."""

    def __init__(self, options: TrainingOptions, checkpoint: Path) -> None:
        self.options, self.checkpoint = options, checkpoint
        self.steps = 0
        self.seconds = 0.0
        self.bar: Any = None

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self.steps, "seconds": self.seconds}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        self.steps, self.seconds = state_dict["steps"], state_dict["seconds"]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.bar = tqdm(
            total=self.options.steps,
            initial=self.steps,
            desc="training",
            unit="step",
            disable=not trainer.is_global_zero,
            dynamic_ncols=True,
        )
        self.since = time.perf_counter()

    def on_train_batch_start(self, *_: Any) -> None:
        if self.options.compile:
            torch.compiler.cudagraph_mark_step_begin()  # what CUDA graphs put out in the last step may be overwritten

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        now = time.perf_counter()
        self.seconds, self.since = self.seconds + now - self.since, now
        self.steps += 1
        self.bar.update()
        limit = self.options.max_seconds
        if limit is not None:
            cast(Model, pl_module).time_used = self.seconds / limit
            trainer.should_stop = trainer.should_stop or self.seconds >= limit
        if self.steps % self.options.log_every == 0 or self.steps % self.options.checkpoint_every == 0:
            losses = {name: float(value) for name, value in trainer.callback_metrics.items()}
            for name, value in losses.items():
                if not math.isfinite(value):
                    raise TrainingError(
                        f"the loss '{name}' became {value} at step {self.steps}; a smaller learning_rate, or "
                        "clip_gradient, keeps it finite"
                    )
            shown = {name: float(value) for name, value in trainer.progress_bar_metrics.items()}
            self.bar.set_postfix({name: f"{value:.3g}" for name, value in shown.items()})

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.bar.close()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        if self.bar is not None:
            self.bar.close()
        if isinstance(exception, KeyboardInterrupt):
            trainer.save_checkpoint(self.checkpoint)


def fit(model: Model, data: DataModule, run: Run, options: TrainingOptions, *, resume: bool = False) -> dict[str, Any]:
    """Train ``model`` and write log, checkpoints and the model itself into the run's directory.

    Args:
        model: in its initial state; ``resume`` replaces it by the checkpoint's.
        data: what to train on.
        run: where to write.
        options: how to train.
        resume: go on from the newest checkpoint.

    Returns:
        ``steps`` trained and ``seconds`` that took, earlier parts of a continued run included.

    Raises:
        TrainingError: nothing to resume, an accelerator that is not there, a loss that became infinite.
        KeyboardInterrupt: stopped by the user; a checkpoint was written.
    """
    if resume and not run.checkpoint.is_file():
        raise TrainingError(f"{run.directory}: nothing to resume, there is no {run.checkpoint.name} in it yet")
    # Lightning counts the steps of every optimiser.
    counted = model.optimizers_per_step
    part = len(list(run.directory.glob("log/part-*")))
    progress = _Progress(options, run.checkpoint)
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    settings: dict[str, Any] = {
        "max_steps": options.steps * counted,
        "max_epochs": -1,
        "accelerator": options.accelerator,
        "devices": options.devices,
        "precision": "32-true" if options.precision == "tf32" else options.precision,
        "logger": [
            CSVLogger(run.directory, name="log", version=f"part-{part}", flush_logs_every_n_steps=options.log_every),
            TensorBoardLogger(run.directory, name="", version="", default_hp_metric=False),
        ],
        "callbacks": [
            progress,
            ModelCheckpoint(
                run.checkpoint.parent,
                filename=run.checkpoint.stem,
                every_n_train_steps=options.checkpoint_every * counted,
                enable_version_counter=False,
            ),
        ],
        "log_every_n_steps": options.log_every,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    if options.precision.startswith("16-mixed") and model.hparams.get("clip_gradient"):
        raise TrainingError(
            f"precision: {options.precision} scales the gradients that clip_gradient is to bound; take bf16-mixed"
        )
    try:
        trainer = pl.Trainer(**settings)
        if trainer.num_devices > 1:  # every optimiser's loss leaves the other networks' parameters unused
            trainer = pl.Trainer(**settings, strategy=DDPStrategy(find_unused_parameters=True))
    except (MisconfigurationException, ValueError, RuntimeError) as error:
        asked = f"accelerator={options.accelerator}, devices={options.devices}, precision={options.precision}"
        raise TrainingError(f"training with {asked}: {str(error).strip().splitlines()[0]}") from None
    with warnings.catch_warnings():
        # What Lightning advises about is decided here on purpose.
        for advice in (
            "does not have many workers",
            "exists and is not empty",
            "is not resumable",
            "LeafSpec",
            "pre-optimization",
            "on_after_batch_transfer",
        ):
            warnings.filterwarnings("ignore", message=f".*{advice}.*")
        try:
            with _compiled(model, options.compile), _matrix_products(options.precision):
                trainer.fit(model, data, ckpt_path=run.checkpoint if resume else None, weights_only=False)
        except SystemExit:  # how Lightning ends after Ctrl-C
            raise KeyboardInterrupt(f"{run.directory}: stopped at step {progress.steps}, go on with --resume") from None
        except RuntimeError as error:
            if "state_dict" not in str(error):
                raise
            reason = str(error).splitlines()[0]
            raise TrainingError(f"{run.checkpoint}: a checkpoint of another model ({reason})") from None
        except Exception as error:
            if not type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
                raise
            reason = str(error).strip().splitlines()[0]
            raise TrainingError(f"compile: torch.compile does not manage this model here: {reason}") from None
    if progress.steps % options.checkpoint_every:
        trainer.save_checkpoint(run.checkpoint)
    done = {"steps": progress.steps, "seconds": round(progress.seconds, 1), "device": _device(trainer)}
    model.to("cpu").eval()
    if not trainer.is_global_zero:
        return done
    model.save_pretrained(run.directory)
    (run.directory / "hparams.yaml").unlink(missing_ok=True)  # the logger's, empty: config.yaml has them
    rows = run.rows()
    names = list(dict.fromkeys(name for row in rows for name in row))
    with run.log.open("w", newline="") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(rows)
    return done


@contextmanager
def _compiled(model: Model, mode: str | None) -> Iterator[None]:
    """Let ``torch.compile`` take over, for as long as it lasts, what a training step evaluates."""
    # A gradient penalty differentiates the discriminator's gradient, which compiled code does not offer.
    twice = {"discriminator"} if model.hparams.get("adversarial") == "wasserstein-gp" else set()
    names = [name for name in model.compiled if name not in twice] if mode else []
    if mode and not names:
        raise TrainingError(f"compile: {type(model).__name__} has no part that torch.compile could take over")
    for name in names:
        part = getattr(model, name)
        if isinstance(part, nn.Module):
            part.compile(mode=mode)
        else:
            setattr(model, name, torch.compile(part, mode=mode))
    try:
        yield
    finally:
        for name in names:
            part = getattr(model, name)
            if isinstance(part, nn.Module):
                part._compiled_call_impl = None
            else:
                delattr(model, name)


@contextmanager
def _matrix_products(precision: str) -> Iterator[None]:
    """Let products of float32 matrices use TensorFloat-32 if ``precision`` is ``tf32``."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if precision == "tf32" else before)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def _device(trainer: pl.Trainer) -> str:
    kind = trainer.strategy.root_device
    name = (
        torch.cuda.get_device_name(kind) if kind.type == "cuda" else f"{kind.type}, {torch.get_num_threads()} threads"
    )
    return f"{trainer.world_size} x {name}" if trainer.world_size > 1 else name
