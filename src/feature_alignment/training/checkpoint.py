"""Checkpoints: the weights, the optimisers' moments, the number of updates done, and the options they were made with.

There is no other state: the order of the images and the random numbers of an update are functions of the seed and of
the update's number, see :class:`feature_alignment.data.Batches` and :func:`seed_update`.

Two are kept. The newest replaces ``last.ckpt`` atomically, after the one before has become ``previous.ckpt``.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import nn

from ..files import atomic_path
from ..models import Updates
from .options import TrainingError

__all__ = ["load_checkpoint", "load_newest", "save_checkpoint", "seed_update"]

#: What a checkpoint holds, and of which types.
KEYS: dict[str, type | tuple[type, ...]] = {
    "updates": int, "seconds": (int, float), "model": dict, "optimizers": dict, "precision": dict, "asked": dict,
}  # fmt: skip

#: What the options in a checkpoint are, see :func:`.resuming.asked`.
SECTIONS: dict[str, type] = {"kind": str, "images": str, "training": dict, "data": dict, "model": dict}

#: The moments of Adam, which a parameter has all or none of.
MOMENTS = ("step", "exp_avg", "exp_avg_sq")

#: Length of the checksum at the end of a checkpoint, in bytes.
SEAL = 39
#: What the checksum begins with.
MARK = b"sha256:"


def seed_update(seed: int, update: int, rank: int, device: torch.device) -> torch.Generator:
    """Seed PyTorch for one update, so that its noise is a function of seed, update and place in the batch.

    Returns:
        A generator of the numbers that the first process's global one would draw; the global one of another process
        is seeded otherwise, for networks that draw numbers of their own.
    """
    torch.manual_seed(_seed(seed, update, rank))
    return torch.Generator(device).manual_seed(_seed(seed, update, 0))


def _seed(seed: int, update: int, rank: int) -> int:
    digest = hashlib.sha256(f"{seed} {update} {rank}".encode()).digest()
    return int.from_bytes(digest[:8], "big") - 2**63


def save_checkpoint(
    fabric: Fabric, path: Path, updates: Updates, seconds: float, asked: Mapping[str, Any], *, keep: bool = True
) -> None:
    """Write a checkpoint atomically, and keep the one before it as ``previous.ckpt``; only the first process writes.

    Args:
        fabric: of the training.
        path: file to write.
        updates: model and optimisers, between two updates.
        seconds: training time so far.
        asked: the options it was made with, see :func:`.resuming.asked`.
        keep: whether there is a whole one at ``path``, if any; a damaged one does not take the place of the previous.

    Raises:
        OSError: it cannot be written; the checkpoints are those from before.
    """
    if not fabric.is_global_zero:
        return
    content = io.BytesIO()  # PyTorch's own file writer aborts the process on a full disk
    state = {
        "updates": updates.done,
        "seconds": seconds,
        "model": updates.model.state_dict(),
        "optimizers": {name: _by_name(updates, name) for name in updates.optimizers},
        "precision": fabric.strategy.precision.state_dict(),
        "asked": dict(asked),
    }
    torch.save(state, content)
    content.seek(-2, io.SEEK_END)
    content.write(SEAL.to_bytes(2, "little"))  # the length of the archive's comment, which is the checksum
    content.write(_seal(content.getbuffer()))
    with atomic_path(path) as scratch:
        with scratch.open("wb") as file:
            file.write(content.getbuffer())
            file.flush()
            os.fsync(file.fileno())  # before the previous one goes
        if keep:
            _keep(path)


def _seal(content: memoryview) -> bytes:
    return MARK + hashlib.sha256(content).digest()


def _keep(path: Path) -> None:
    """Give the newest checkpoint the name of the previous one as well."""
    if not path.is_file():
        return
    previous = path.with_name("previous.ckpt")
    previous.unlink(missing_ok=True)
    try:
        os.link(path, previous)
    except OSError:  # a file system without hard links: for an instant there is the previous one only
        path.replace(previous)


def _by_name(updates: Updates, optimizer: str) -> dict[str, Any]:
    """Return the moments by the name of their parameter, so that freezing another one does not move them."""
    state = updates.optimizers[optimizer].state_dict()["state"]
    return {name: state[index] for index, name in enumerate(_names(updates, optimizer)) if index in state}


def _names(updates: Updates, optimizer: str) -> list[str]:
    known = {id(each): name for name, each in updates.model.named_parameters()}
    return [known.get(id(each), f"{index}") for index, each in enumerate(updates.parameters[optimizer])]


def load_newest(paths: list[Path]) -> tuple[Path, dict[str, Any]]:
    """Read the first of the checkpoints that is whole; warn of those that are not.

    Args:
        paths: existing files, newest first, at least one.

    Returns:
        Its path and its content.

    Raises:
        TrainingError: none is whole; the message is that of the newest.
    """
    problems: list[TrainingError] = []
    for path in paths:
        try:
            state = load_checkpoint(path)
        except TrainingError as error:
            problems.append(error)
            continue
        for problem in problems:
            warnings.warn(f"{problem}; going on from {path.name}, {state['updates']} updates", stacklevel=2)
        return path, state
    raise problems[0]


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint and verify its checksum, without executing any code that a pickle may contain.

    Raises:
        TrainingError: the file is damaged, or is not a checkpoint of this version.
    """
    try:
        content = path.read_bytes()
        whole = content[-SEAL:] == _seal(memoryview(content)[:-SEAL])
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        missing = KEYS.keys() - set(state)
        # PyTorch compares no checksums. Those of earlier versions had none, and not all of the keys.
        if not whole and (content[-SEAL:].startswith(MARK) or not missing):
            raise ValueError("its checksum is wrong")
        _check_types(state)
    except Exception as error:  # whatever a damaged archive makes PyTorch raise
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise TrainingError(f"{path}: not a readable checkpoint ({reason})") from None
    if missing:
        raise TrainingError(f"{path}: not a checkpoint of this version, there is no {', '.join(sorted(missing))}")
    return dict(state)


def _check_types(state: dict[str, Any]) -> None:
    """Raise a ValueError unless the parts of a checkpoint that are there have the types that are written."""
    for name, value in state.items():
        if name in KEYS and not isinstance(value, KEYS[name]):
            raise ValueError(f"{name} is {type(value).__name__}")
    if not state.get("updates", 0) >= 0 or not 0 <= state.get("seconds", 0) < math.inf:
        raise ValueError(f"updates is {state.get('updates')}, seconds is {state.get('seconds')}")
    asked = state.get("asked", {})
    for name, kind in SECTIONS.items() if "asked" in state else ():
        if not isinstance(asked.get(name), kind):
            raise ValueError(f"asked.{name} is {type(asked.get(name)).__name__}")
    json.dumps(asked)  # plain values, which can be compared


def restore_model(path: Path, state: dict[str, Any], model: nn.Module) -> None:
    """Load the weights of a checkpoint; raise a TrainingError if they belong to another model."""
    try:
        model.load_state_dict(state["model"])
    except Exception as error:  # whatever values that are no weights make PyTorch raise
        reason = " ".join(str(error).split())[:200]
        raise TrainingError(f"{path}: a checkpoint of another model ({reason})") from None


def restore_optimizers(path: Path, state: dict[str, Any], updates: Updates) -> None:
    """Load the optimisers' moments; learning rates and betas are those of the current options."""
    if state["optimizers"].keys() != updates.optimizers.keys():
        raise TrainingError(f"{path}: has the optimisers {', '.join(state['optimizers'])}, not those of this model")
    for name, optimizer in updates.optimizers.items():
        moments, groups = state["optimizers"][name], optimizer.state_dict()["param_groups"]
        needed = MOMENTS if isinstance(optimizer, torch.optim.Adam) else ()
        _check_moments(path, moments, dict(zip(_names(updates, name), updates.parameters[name], strict=True)), needed)
        indexed = {index: moments[each] for index, each in enumerate(_names(updates, name)) if each in moments}
        optimizer.load_state_dict({"state": indexed, "param_groups": groups})


def _check_moments(path: Path, moments: Any, parameters: dict[str, nn.Parameter], needed: Sequence[str]) -> None:
    """Raise a TrainingError unless each parameter has moments of its own shape, or none; the step is one number."""
    for name, parameter in parameters.items():
        found = moments.get(name, {}) if isinstance(moments, dict) else None
        values = dict.fromkeys(needed if found else ()) | found if isinstance(found, dict) else {"moments": found}
        for key, value in values.items():
            shape = torch.Size() if key == "step" else parameter.shape
            if not (isinstance(value, torch.Tensor) and value.layout == torch.strided and value.shape == shape):
                raise TrainingError(f"{path}: not a readable checkpoint (the optimiser's {key} of {name})")
