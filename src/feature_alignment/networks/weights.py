"""Files of weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from .errors import NetworkError, reason

__all__ = ["fill", "in_torch_cache", "misfit", "read_weights"]

#: Under which names checkpoints of training loops have the state dict, beside other things.
ENTRIES = ("state_dict", "model_state_dict", "model", "module", "network", "net")
#: What DistributedDataParallel and ``torch.compile`` put before all names.
WRAPPERS = ("module.", "_orig_mod.")


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Read a state dict, in safetensors or PyTorch's format (tensors only: no code in the file is run).

    A file that holds it under one of the usual names, see :data:`ENTRIES`, beside other things, will do, and what
    :data:`WRAPPERS` put before every name is taken away.

    Raises:
        NetworkError: there is no such file, or no state dict in it.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise NetworkError(f"--weights {path}: no such file")
    try:
        found: Any = load_file(path) if path.suffix == ".safetensors" else _load(path)
    except Exception as error:  # damaged files raise anything
        raise NetworkError(
            f"--weights {path}: expected tensors by name, in safetensors or by torch.save of a network's state_dict(), "
            f"not of the network ({reason(error)})"
        ) from None
    for key in ENTRIES:
        if isinstance(found, dict) and isinstance(found.get(key), dict):
            found = found[key]
    if not isinstance(found, dict) or not found or not all(isinstance(each, Tensor) for each in found.values()):
        raise NetworkError(f"--weights {path}: expected a state dict, tensors by name")
    weights: dict[str, Tensor] = found
    while prefix := next((each for each in WRAPPERS if all(name.startswith(each) for name in weights)), ""):
        weights = _under(prefix, weights)
    return weights


def _under(prefix: str, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): each for name, each in weights.items() if name.startswith(prefix)}


def _load(path: Path) -> Any:
    return torch.load(path, map_location="cpu", weights_only=True)


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
    weights = _part(weights, set(own), source)
    shapes = [name for name, each in weights.items() if name in own and own[name].shape != each.shape]
    wrong = misfit(
        [name for name in own if name not in weights],
        [name for name in weights if name not in own],
        [f"{name} {tuple(weights[name].shape)} instead of {tuple(own[name].shape)}" for name in shapes],
    )
    if wrong:
        raise NetworkError(f"{source}: does not fit {what}: {wrong}{_classes(own, weights, shapes)}")
    network.load_state_dict(weights)


def _part(weights: dict[str, Tensor], own: set[str], source: str) -> dict[str, Tensor]:
    """Return the tensors that have the names of a network, without what stands before these."""
    if not own or own <= set(weights):
        return weights
    end = min(own)
    prefixes = [name.removesuffix(end) for name in weights if name.endswith(f".{end}")]
    fitting = [prefix for prefix in prefixes if all(prefix + name in weights for name in own)]
    if len(fitting) > 1:
        raise NetworkError(f"{source}: holds several such networks, under {', '.join(fitting)}; save one of them alone")
    return _under(fitting[0], weights) if fitting else weights


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
