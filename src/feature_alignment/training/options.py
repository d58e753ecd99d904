"""Options of a training, and the error it raises."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["LARGEST_SEED", "Diverged", "TrainingError", "TrainingOptions"]

#: NumPy takes no larger seed.
LARGEST_SEED = 2**32 - 1

#: What Lightning's short names of precisions mean.
SHORT_PRECISIONS = {"16": "16-mixed", "bf16": "bf16-mixed", "32": "32-true", "64": "64-true"}


class TrainingError(Exception):
    """A training cannot start or continue; the message is one line for the user."""


class Diverged(TrainingError):  # noqa: N818 (the result of a training)
    """A loss is no longer finite."""


@dataclass(frozen=True)
class TrainingOptions:
    """Options of a training.

    Args:
        steps: number of updates, each on one batch.
        seed: of initialisation, order of the images and noise; from 0 to 4294967295.
        accelerator: ``auto``, ``cpu``, ``gpu``, ...
        devices: number of devices, a list of theirs such as ``"1,"`` or ``"0,1"``, or ``auto``: all GPUs, one CPU, or
            as many as torchrun or SLURM started processes. Each process has a batch of its own: ``W`` of them train as
            one with a batch ``W`` times as large.
        strategy: of several processes: ``auto``, which is ``ddp`` if there are any; ``fsdp`` is refused with a reason.
        precision: of the arithmetic, as Lightning names it: ``32-true``, ``bf16-mixed``, ...; or ``tf32``: 32-true
            with matrix products in TensorFloat-32 on GPUs that support it.
        compile: ``torch.compile`` mode of the training step: ``default``, or, on a GPU, ``reduce-overhead`` (CUDA
            graphs) or ``max-autotune``; null turns it off.
        log_every: number of updates between two lines of the log.
        checkpoint_every: number of updates between two checkpoints.
        checkpoint_seconds: longest time between two checkpoints, in seconds; none for no limit. It changes no result.
        max_seconds: limit on the training time, in seconds; none for no limit.

    Raises:
        TrainingError: ``steps``, ``log_every`` or ``checkpoint_every`` below 1, a seed out of range, or a time that
            is negative.
    """

    steps: int = 20_000
    seed: int = 0
    accelerator: str = "auto"
    devices: int | str = "auto"
    strategy: Literal["auto", "ddp", "fsdp"] = "auto"
    precision: str = "32-true"
    compile: Literal["default", "reduce-overhead", "max-autotune"] | None = None
    log_every: int = 10
    checkpoint_every: int = 500
    checkpoint_seconds: float | None = 300.0
    max_seconds: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "precision", SHORT_PRECISIONS.get(str(self.precision), str(self.precision)))
        for name in ("steps", "log_every", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise TrainingError(f"{name}: expected at least 1, got {getattr(self, name)}")
        if not 0 <= self.seed <= LARGEST_SEED:
            raise TrainingError(f"seed: expected a whole number from 0 to {LARGEST_SEED}, got {self.seed}")
        for name in ("checkpoint_seconds", "max_seconds"):
            value = getattr(self, name)
            if value is not None and not value >= 0:
                raise TrainingError(f"{name}: expected at least 0, got {value}")
