"""How to train, and what a training refuses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["TrainingError", "TrainingOptions"]


class TrainingError(Exception):
    """A training that cannot start or go on; the message is one line for the user."""


@dataclass(frozen=True)
class TrainingOptions:
    """How to train.

    Args:
        steps: updates, each on one batch.
        seed: of initialisation, order of the images and noise.
        accelerator: ``auto``, ``cpu``, ``gpu``, ...
        devices: number of devices, or ``auto``.
        precision: of the arithmetic, as Lightning names it: ``32-true``, ``bf16-mixed``, ...; or ``tf32``, which is
            32-true with products of matrices in TensorFloat-32 on a GPU that has it.
        compile: `torch.compile` mode of the training step; null turns it off: ``default``, or
            ``reduce-overhead`` (CUDA graphs) and ``max-autotune`` for a GPU.
        log_every: updates between two lines of the log.
        checkpoint_every: updates between two checkpoints.
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
