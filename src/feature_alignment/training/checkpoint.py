"""Checkpoints: the weights, the optimisers' moments and the number of updates done.

There is no other state: the order of the images and the random numbers of an update are functions of the seed and of
the update's number, see :class:`feature_alignment.data.Batches` and :func:`seed_update`.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric

from ..files import atomic_path
from ..models import Updates
from .options import TrainingError

__all__ = ["load_checkpoint", "save_checkpoint", "seed_update"]


def seed_update(seed: int, update: int, rank: int) -> None:
    """Seed PyTorch for one update, so that its noise is a function of seed, update and process."""
    digest = hashlib.sha256(f"{seed} {update} {rank}".encode()).digest()
    torch.manual_seed(int.from_bytes(digest[:8], "big") - 2**63)


def save_checkpoint(fabric: Fabric, path: Path, updates: Updates, seconds: float) -> None:
    """Write a checkpoint atomically; every process has to call this.

    Args:
        fabric: of the training.
        path: file to write.
        updates: model and optimisers, between two updates.
        seconds: training time so far.
    """
    if fabric.is_global_zero:
        state = {
            "updates": updates.done,
            "seconds": seconds,
            "model": updates.model.state_dict(),
            "optimizers": {name: each.state_dict()["state"] for name, each in updates.optimizers.items()},
            "precision": fabric.strategy.precision.state_dict(),
        }
        with atomic_path(path) as scratch:
            torch.save(state, scratch)
    fabric.barrier()


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint, without executing any code that a pickle may contain.

    Raises:
        TrainingError: the file is damaged, or is not a checkpoint of this version.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        missing = {"updates", "seconds", "model", "optimizers", "precision"} - set(state)
    except Exception as error:  # whatever a damaged archive makes PyTorch raise
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise TrainingError(f"{path}: not a readable checkpoint ({reason})") from None
    if missing:
        raise TrainingError(f"{path}: not a checkpoint of this version, there is no {', '.join(sorted(missing))}")
    return dict(state)


def restore_model(path: Path, state: dict[str, Any], model: torch.nn.Module) -> None:
    """Load the weights of a checkpoint; raise a TrainingError if they belong to another model."""
    try:
        model.load_state_dict(state["model"])
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise TrainingError(f"{path}: a checkpoint of another model ({reason})") from None


def restore_optimizers(path: Path, state: dict[str, Any], updates: Updates) -> None:
    """Load the optimisers' moments; learning rates and betas are those of the current options."""
    if state["optimizers"].keys() != updates.optimizers.keys():
        raise TrainingError(f"{path}: has the optimisers {', '.join(state['optimizers'])}, not those of this model")
    for name, optimizer in updates.optimizers.items():
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": state["optimizers"][name], "param_groups": groups})
