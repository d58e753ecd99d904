"""Files of weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from .errors import NetworkError, reason

__all__ = ["fill", "in_torch_cache", "misfit", "read_weights"]


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Read a state dict, in safetensors or PyTorch's format (tensors only: no code in the file is run).

    A file that holds it as ``state_dict`` or ``model``, beside other things, will do.

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
            f"--weights {path}: expected tensors by name, in safetensors or by torch.save ({reason(error)})"
        ) from None
    for key in ("state_dict", "model"):
        if isinstance(found, dict) and isinstance(found.get(key), dict):
            found = found[key]
    if not isinstance(found, dict) or not found or not all(isinstance(each, Tensor) for each in found.values()):
        raise NetworkError(f"--weights {path}: expected a state dict, tensors by name")
    return found


def _load(path: Path) -> Any:
    return torch.load(path, map_location="cpu", weights_only=True)


def fill(network: nn.Module, weights: dict[str, Tensor], what: str, source: str) -> None:
    """Load a state dict into a network.

    Args:
        network: any module.
        weights: the state dict.
        what: the network's name, in messages.
        source: the name of the weights, in messages.

    Raises:
        NetworkError: they do not fit; missing, superfluous and differently shaped tensors are named.
    """
    own = network.state_dict()
    shapes = [name for name, each in weights.items() if name in own and own[name].shape != each.shape]
    wrong = misfit(
        [name for name in own if name not in weights],
        [name for name in weights if name not in own],
        [f"{name} {tuple(weights[name].shape)} instead of {tuple(own[name].shape)}" for name in shapes],
    )
    if wrong:
        raise NetworkError(f"{source}: does not fit {what}: {wrong}")
    network.load_state_dict(weights)


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
