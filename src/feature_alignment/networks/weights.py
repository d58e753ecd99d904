"""Files of weights."""

from __future__ import annotations

import argparse
import pathlib
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from ..files import user_path
from .errors import NetworkError, reason

__all__ = ["fill", "in_torch_cache", "misfit", "part_for", "read_weights"]

#: Under which names checkpoints of training loops have the state dict, beside other things.
ENTRIES = ("state_dict", "model_state_dict", "model_state", "model", "module", "network", "net", "params_ema", "params")
#: What checkpoints of training loops have beside it, and may be built from the file: they hold values, and run no code.
PLAIN: list[Any] = [
    argparse.Namespace,
    pathlib.PosixPath,
    pathlib.PurePosixPath,
    np.dtype,
    np.ndarray,
    np.float64(0).__reduce__()[0],  # the functions that scalars and arrays are made by
    np.zeros(1).__reduce__()[0],
    *(type(np.dtype(kind)) for kind in ("f2", "f4", "f8", "i4", "i8", "u1", "bool")),
]
#: PyTorch's words for a class that it does not build from a file.
UNKNOWN = re.compile(r"GLOBAL ([\w.]+) was not an allowed global")
#: A buffer that PyTorch does not ask for, as networks of before 0.4.1 have none.
COUNT = "num_batches_tracked"


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Read a state dict, in safetensors or PyTorch's format (tensors only: no code in the file is run).

    A file that holds it under one of the usual names, see :data:`ENTRIES`, beside other things, will do.

    Raises:
        NetworkError: there is no such file, or no state dict in it.
    """
    path = user_path(path)
    if not path.is_file():
        raise NetworkError(f"--weights {path}: no such file")
    try:
        found: Any = load_file(path) if path.suffix == ".safetensors" else _load(path)
    except Exception as error:  # damaged files raise anything
        if kind := UNKNOWN.search(str(error)):
            raise NetworkError(
                f"--weights {path}: holds a {kind[1]}, and code in a file is not run; save the network's state_dict() "
                "alone"
            ) from None
        raise NetworkError(
            f"--weights {path}: expected tensors by name, in safetensors or by torch.save ({reason(error)})"
        ) from None
    for key in ENTRIES:
        if isinstance(found, dict) and isinstance(found.get(key), dict):
            found = found[key]
    if not isinstance(found, dict) or not found or not all(isinstance(each, Tensor) for each in found.values()):
        raise NetworkError(f"--weights {path}: expected a state dict, tensors by name")
    weights: dict[str, Tensor] = found
    return weights


def _load(path: Path) -> Any:
    with torch.serialization.safe_globals(PLAIN):
        return torch.load(path, map_location="cpu", weights_only=True)


def part_for(names: Collection[str], weights: dict[str, Tensor], source: str) -> dict[str, Tensor]:
    """Return the tensors that a network of these names takes, without what a wrapper or a larger network put before.

    That is ``module.`` of DistributedDataParallel, ``_orig_mod.`` of ``torch.compile``, Lightning's ``model.``, or
    another prefix. What does not fit is returned as it is.

    Args:
        names: of the network's state dict.
        weights: a state dict.
        source: the name of the weights, in messages.

    Raises:
        NetworkError: several parts fit.
    """
    needed = [name for name in names if not name.endswith(COUNT)]
    if not needed or all(name in weights for name in needed):
        return weights
    prefixes = [name.removesuffix(needed[0]) for name in weights if name.endswith(f".{needed[0]}")]
    fitting = [prefix for prefix in prefixes if all(prefix + name in weights for name in needed)]
    if len(fitting) > 1:
        raise NetworkError(f"{source}: holds several such networks, under {', '.join(fitting)}; save one of them alone")
    if not fitting:
        return weights
    return {name.removeprefix(fitting[0]): each for name, each in weights.items() if name.startswith(fitting[0])}


def fill(network: nn.Module, weights: dict[str, Tensor], what: str, source: str) -> None:
    """Load a state dict into a network, or what a larger one has of it, such as Lightning's under ``model.``.

    Args:
        network: any module.
        weights: the state dict.
        what: the network's name, in messages.
        source: the name of the weights, in messages.

    Raises:
        NetworkError: they do not fit; missing, superfluous and differently shaped tensors are named. Or several do.
    """
    own = network.state_dict()
    weights = part_for(own, weights, source)
    weights = {name: each for name, each in own.items() if name.endswith(COUNT)} | weights
    shapes = [name for name, each in weights.items() if name in own and own[name].shape != each.shape]
    wrong = misfit(
        [name for name in own if name not in weights],
        [name for name in weights if name not in own],
        [f"{name} {tuple(weights[name].shape)} instead of {tuple(own[name].shape)}" for name in shapes],
    )
    if wrong:
        raise NetworkError(f"{source}: does not fit {what}: {wrong}{_classes(own, weights, shapes)}")
    for name, each in own.items():
        each.copy_(weights[name])


def _classes(own: dict[str, Tensor], weights: dict[str, Tensor], shapes: list[str]) -> str:
    """Say how a network gets as many classes as the weights have, if it is only that."""
    counts = {(len(own[name]), len(weights[name])) for name in shapes if own[name].ndim and weights[name].ndim}
    same = all(own[name].shape[1:] == weights[name].shape[1:] for name in shapes)
    if len(counts) != 1 or not same:
        return ""
    return f"; its arguments are given by --init, the {counts.pop()[1]} classes of these weights often by num_classes"


def misfit(missing: list[str], superfluous: list[str], shapes: list[str]) -> str:
    """Say what does not fit, or nothing.

    Example:
        >>> misfit(["a", "b", "c"], [], ["d (2,) instead of (3,)"])
        '3 missing (a, b, ...), 1 of another shape (d (2,) instead of (3,))'
    """
    kinds = {"missing": missing, "unknown": superfluous, "of another shape": shapes}
    return ", ".join(
        f"{len(names)} {kind} ({', '.join([*names[:2], *['...'] * (len(names) > 2)])})"
        for kind, names in kinds.items()
        if names
    )


def in_torch_cache(url: str) -> Path | None:
    """Return where :mod:`torch.hub` keeps what it downloaded from a URL, if it has it."""
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
    return path if path.is_file() else None
