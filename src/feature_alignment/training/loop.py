"""Training a model into a run directory."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor

from ..core.draws import Part, part_of_batch
from ..data import TrainingData
from ..files import remove_unfinished
from ..models import Model
from ..progress import Progress
from .checkpoint import load_newest, restore_model, restore_optimizers, save_checkpoint, seed_update
from .compilation import compiled, matrix_products
from .fabric_updates import FabricUpdates
from .log import Log
from .options import Diverged, TrainingError, TrainingOptions
from .processes import Agreement, averaged, launched, refuse_unsynchronised, synchronised, together
from .resuming import asked, refuse_changes
from .run import Run
from .stopping import Stopped, Stopper

__all__ = ["fit"]

#: Data type of the weights, for the precisions that have one other than float32.
DTYPES = {"64-true": torch.float64, "bf16-true": torch.bfloat16, "16-true": torch.float16}

#: Most training images that a sampler is fitted to, evenly spread over the set, which may be ordered by class.
FITTED = 10_000


def fit(
    model: Model,
    data: TrainingData,
    run: Run,
    options: TrainingOptions,
    *,
    resume: bool = False,
    accepted: Callable[[], None] | None = None,
) -> dict[str, Any]:
    """Train ``model`` and write log, checkpoints and the model itself into the run's directory.

    Args:
        model: in its initial state; with ``resume``, the checkpoint's weights are loaded into it.
        data: training images and batches.
        run: directory to write.
        options: number of updates, seed, device, precision, ...
        resume: continue from the newest whole checkpoint; from the beginning, with a warning, if there is none yet.
        accepted: called in the first process before the first update, once the options fit the checkpoint.

    Returns:
        ``steps``, the number of updates; ``seconds``, the training time, of earlier parts of a resumed run too; and
        ``device``, a description of the hardware. In the first process the model is on the CPU, in eval mode and in
        float32, as :meth:`~feature_alignment.models.Model.from_pretrained` loads it.

    Raises:
        TrainingError: damaged checkpoints, an option that cannot change on resuming, a directory that another
            training writes into or, without ``resume``, has written into, or an unavailable accelerator.
        Diverged: a loss, or a weight at the end, that is not finite.
        OSError: a file cannot be written; the checkpoints are those from before.
        Stopped: by Ctrl-C, SIGTERM or SIGHUP, after writing a checkpoint.
    """
    if options.precision.startswith("16-mixed") and model.clips_gradients and model.options.clip_gradient:
        raise TrainingError(
            f"precision: {options.precision} scales the gradients that clip_gradient is to bound; take bf16-mixed"
        )
    if not resume and (run.checkpoints or (run.directory / "model.safetensors").is_file()):
        raise TrainingError(f"{run.directory}: has a training in it; resume it, or take another directory")
    fabric = launched(options)
    with run.locked() if fabric.is_global_zero else nullcontext(), together(fabric):
        return _fit(fabric, model, data, run, options, resume, accepted)


def _fit(
    fabric: Fabric,
    model: Model,
    data: TrainingData,
    run: Run,
    options: TrainingOptions,
    resume: bool,
    accepted: Callable[[], None] | None,
) -> dict[str, Any]:
    refuse_unsynchronised(model, fabric.device, fabric.world_size)
    training = _Training(fabric, model, data, run, options, resume, accepted)
    try:
        with synchronised(model, fabric.world_size), compiled(model, options.compile):
            training.run_updates()
    finally:
        training.close()
    done = {"steps": training.updates.done, "seconds": round(training.seconds, 1), "device": training.device_name()}
    if not fabric.is_global_zero:
        return done
    if lost := next((name for name, each in model.named_parameters() if not each.isfinite().all()), None):
        raise Diverged(f"{lost} is not finite at the end; {_advice(model)}")
    seed_update(options.seed, training.updates.done, 0, fabric.device)  # also where no update was left to do
    chosen = torch.linspace(0, len(data.train) - 1, min(FITTED, len(data.train))).round().long()
    labels = None if data.train.labels is None else data.train.labels[chosen]
    if len(chosen) > 1:  # one image has no covariance, and is no reason to lose the model
        model.fit_samplers(data.train.pixels[chosen], labels)
    model.to("cpu").float().eval()  # whatever the precision of its training
    if model.classes:
        model.class_names = data.train.classes
    model.white = dict(data.train.white)
    model.save_pretrained(run.directory)
    return done


def _advice(model: Model) -> str:
    """Return what keeps a training finite."""
    return f"a smaller learning_rate{', or clip_gradient,' if model.clips_gradients else ''} keeps it finite"


class _Training:
    """The training loop: updates, log lines and checkpoints."""

    def __init__(
        self,
        fabric: Fabric,
        model: Model,
        data: TrainingData,
        run: Run,
        options: TrainingOptions,
        resume: bool,
        accepted: Callable[[], None] | None,
    ) -> None:
        self.fabric, self.run, self.options = fabric, run, options
        self.asked = asked(model, data, options, fabric.world_size)
        path, state = self._restored() if resume else (None, None)
        self.newest_is_whole = path in (None, run.checkpoint)
        model.to(fabric.device, DTYPES.get(options.precision, model.dtype))
        if path and state:
            refuse_changes(path, state, self.asked)
            restore_model(path, state, model)
        self.updates = FabricUpdates(fabric, model, options.steps, state["updates"] if state else 0)
        self.seconds, self.saved = float(state["seconds"]) if state else 0.0, -1
        #: Of the last update.
        self.losses: dict[str, Tensor] = {}
        if path and state:
            restore_optimizers(path, state, self.updates)
            if state["precision"]:  # a scale of gradients, if the precision has been one with a scale
                fabric.strategy.precision.load_state_dict(state["precision"])
            self.saved = self.updates.done
        self.saved_at = time.perf_counter()
        if fabric.is_global_zero:
            for directory in (run.directory, run.checkpoint.parent):
                remove_unfinished(directory)
        self.batches = data.batches(options.seed, fabric.device, fabric.global_rank, fabric.world_size)
        if accepted and fabric.is_global_zero:
            accepted()
        self.log = Log(run.log, self.updates.done) if fabric.is_global_zero else None

    def _restored(self) -> tuple[Path | None, dict[str, Any] | None]:
        if self.run.checkpoints:
            return load_newest(self.run.checkpoints)
        warnings.warn(f"{self.run.directory}: no checkpoint in it yet, starting from the beginning", stacklevel=2)
        return None, None

    def run_updates(self) -> None:
        """Train until the last update, the time limit or a signal, and save a checkpoint."""
        updates, options = self.updates, self.options
        with Stopper().listening() as stopper, self._progress() as bar, matrix_products(options.precision):
            agreement = Agreement(self.fabric, updates.done)
            since, late = time.perf_counter(), int(self._out_of_time())
            while updates.done < options.steps and not late:
                if options.compile:
                    torch.compiler.cudagraph_mark_step_begin()  # the last update's outputs may be overwritten
                self.losses = losses = self._update()
                now = time.perf_counter()
                self.seconds, since = self.seconds + now - since, now
                if updates.done % options.log_every == 0:
                    bar.said = self._logged(losses)
                bar.update(updates.done)
                wishes = stopper.received or 0, self._due(), self._out_of_time()
                received, due, late = agreement.after(updates.done, *wishes)
                if updates.done % options.checkpoint_every == 0 or due:
                    self._save()
                if received:
                    self._stop(received)
            self._save()
            if stopper.received is not None:
                self._stop(stopper.received)

    def _update(self) -> dict[str, Tensor]:
        """Make the next update; several processes draw the noise of their images as one process would."""
        fabric, done = self.fabric, self.updates.done
        images, labels = self.batches.batch(done)
        generator = seed_update(self.options.seed, done, fabric.global_rank, fabric.device)
        alone = fabric.world_size == 1
        part = Part() if alone else Part(fabric.global_rank, fabric.world_size, len(images), generator)
        with part_of_batch(part):
            return self.updates.step(images, labels)

    def _stop(self, received: int) -> None:
        self._save()
        raise Stopped(f"{self.run.directory}: stopped at step {self.updates.done}", received)

    def close(self) -> None:
        """Close the log."""
        if self.log is not None:
            self.log.close()

    def device_name(self) -> str:
        """Return a description of the hardware, such as ``cpu, 2 threads``."""
        kind = self.fabric.device
        threads = f"{kind.type}, {torch.get_num_threads()} threads"
        name = torch.cuda.get_device_name(kind) if kind.type == "cuda" else threads
        return f"{self.fabric.world_size} x {name}" if self.fabric.world_size > 1 else name

    def _progress(self) -> Progress:
        return Progress("training", self.options.steps, self.updates.done, "step", shown=self.fabric.is_global_zero)

    def _due(self) -> bool:
        """Whether the last checkpoint is too old by the clock."""
        longest = self.options.checkpoint_seconds
        return longest is not None and time.perf_counter() - self.saved_at >= longest

    def _out_of_time(self) -> bool:
        limit = self.options.max_seconds
        return limit is not None and self.seconds >= limit

    def _logged(self, losses: dict[str, Tensor]) -> str:
        """Write a line of the log; return the first losses, formatted for the progress bar."""
        values = self._finite(losses)
        number = self.updates.done - 1
        if self.log is not None:
            self.log.write({"epoch": number // len(self.batches), "step": number, **values})
        return ", ".join(f"{name} {value:.3g}" for name, value in list(values.items())[:4])

    def _finite(self, losses: dict[str, Tensor]) -> dict[str, float]:
        values = {name: float(value) for name, value in averaged(self.fabric, losses).items()}
        for name, value in values.items():
            if not math.isfinite(value):
                raise Diverged(
                    f"the loss '{name}' became {value} at step {self.updates.done}; {_advice(self.updates.model)}"
                )
        return values

    def _save(self) -> None:
        if self.saved != self.updates.done:
            self._finite(self.losses)
            state = (self.updates, self.seconds, self.asked)
            save_checkpoint(self.fabric, self.run.checkpoint, *state, keep=self.newest_is_whole)
            self.newest_is_whole = True
            self.saved, self.saved_at = self.updates.done, time.perf_counter()
