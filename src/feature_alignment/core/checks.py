"""Checks of arguments before a network is aligned or inverted; ``trials.py`` evaluates the network itself."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter
from torch.utils import _pytree as pytree

from .structures import Network, Structure, describe, named_leaves, standard, tensors
from .trials import check_batch, check_independence, explained_trial

__all__ = [
    "Network",
    "Structure",
    "batch_size",
    "check_dtypes",
    "check_finite",
    "check_floating",
    "check_independence",
    "check_output",
    "check_start",
    "explained_trial",
    "is_random",
    "named_leaves",
    "refuse_batch_statistics",
    "refuse_inference",
    "refuse_quantised",
    "standard",
    "tensors",
]


def batch_size(target: Structure) -> int:
    """Return the common first dimension of all tensors; raise a TypeError or ValueError if there is none."""
    batch = None
    for name, leaf in named_leaves("target", target):
        if not isinstance(leaf, Tensor):
            raise TypeError(f"{name}: expected a tensor, got {type(leaf).__name__}")
        if leaf.ndim == 0:
            raise ValueError(f"{name}: expected the batch as its first dimension, got a tensor with no dimensions")
        if batch is None:
            batch = leaf.shape[0]
        elif leaf.shape[0] != batch:
            raise ValueError(f"{name}: expected a batch of {batch} like the tensors before it, got {leaf.shape[0]}")
    if batch is None:
        raise ValueError("target: expected at least one tensor, got an empty structure")
    return batch


def check_start(start: Tensor, batch: int) -> None:
    """Raise a TypeError or ValueError unless ``start`` is one floating-point start, or one per sample."""
    if not isinstance(start, Tensor) or not start.is_floating_point():
        kind = start.dtype if isinstance(start, Tensor) else type(start).__name__
        raise TypeError(f"start: expected a floating-point tensor, got {kind}")
    if start.ndim == 0 or start.shape[0] not in (1, batch):
        raise ValueError(
            f"start: expected shape (1, ...), shared by the batch, or ({batch}, ...), one per sample as in "
            f"target, got {tuple(start.shape)}"
        )


def check_floating(name: str, structure: Structure) -> None:
    """Raise a TypeError that names the first leaf which is no floating-point tensor, and those that are."""
    leaves = list(named_leaves(name, structure))
    if not leaves:
        raise TypeError(f"{name}: expected a floating-point tensor, or several, got {describe(structure)}")
    for place, leaf in leaves:
        if not _is_floating(leaf):
            kind = leaf.dtype if isinstance(leaf, Tensor) else type(leaf).__name__
            raise TypeError(f"{place}: expected a floating-point tensor, got {kind}{_way_out(name, leaves, leaf)}")


def _is_floating(leaf: Any) -> bool:
    return isinstance(leaf, Tensor) and leaf.is_floating_point()


def _way_out(name: str, leaves: list[tuple[str, Any]], refused: Any) -> str:
    usable = [place.removeprefix(name) for place, leaf in leaves if _is_floating(leaf)]
    if usable:
        others = "" if len(usable) == 1 else f" (of {', '.join(usable)})"
        return f"; choose what to align{others}, for instance lambda x: network(x){usable[0]}"
    if isinstance(refused, Tensor) and refused.is_complex():
        return "; split it, for instance lambda x: torch.view_as_real(network(x))"
    return ""


def check_output(output: Structure, target: Structure, batch: int) -> None:
    """Raise TypeError, ValueError that names the tensor in which target and the network's output differ."""
    if pytree.tree_structure(output) != pytree.tree_structure(target):
        raise ValueError(
            f"target: expected the structure of the network's output, {describe(output)}, got {describe(target)}"
        )
    places = pytree.tree_leaves_with_path(target)
    for (path, wanted), got in zip(places, pytree.tree_leaves(output), strict=True):
        if got is not None or wanted is not None:
            _check_part(pytree.keystr(path), got, wanted, batch)


def _check_part(place: str, got: Tensor | None, wanted: Tensor | None, batch: int) -> None:
    if got is None or wanted is None:
        raise ValueError(f"target{place}: expected {describe(got)} like the network's output, got {describe(wanted)}")
    check_batch(f"the network's output{place}", got, batch)
    if got.shape[1:] != wanted.shape[1:]:
        raise ValueError(
            f"target{place}: expected shape {(wanted.shape[0], *got.shape[1:])} like the network's output, "
            f"got {tuple(wanted.shape)}"
        )
    _check_dtype(place, got, wanted)


def check_dtypes(output: Structure, target: Structure) -> None:
    """Raise a TypeError that names the first tensor whose dtype is not that of the network's output, in its order."""
    names = [name for name, leaf in named_leaves("", target) if leaf is not None]
    for name, got, wanted in zip(names, tensors(output), tensors(target), strict=True):
        _check_dtype(name, got, wanted)


def _check_dtype(place: str, got: Tensor, wanted: Tensor) -> None:
    if got.dtype != wanted.dtype and not torch.is_autocast_enabled(got.device.type):
        raise TypeError(f"target{place}: expected dtype {got.dtype} like the network's output, got {wanted.dtype}")


def refuse_batch_statistics(network: nn.Module) -> None:
    """Raise a ValueError that names the first layer that normalises with the statistics of the batch."""
    for name, module in network.named_modules():
        normalises = isinstance(module, nn.modules.batchnorm._BatchNorm)
        if normalises and (module.training or module.running_mean is None):
            raise ValueError(
                f"network: {type(module).__name__} at '{name}' normalises with the statistics of the batch, so a "
                "feature would depend on its neighbours; call network.eval() or use GroupNorm"
            )


def refuse_quantised(network: nn.Module) -> None:
    """Raise a ValueError that names the first quantised layer, which PyTorch evaluates in integers."""
    for name, module in network.named_modules():
        if ".quantized" in type(module).__module__:
            raise ValueError(
                f"network: {type(module).__name__} at '{name}' is quantised: PyTorch has no derivative of it, and its "
                "scale depends on the whole batch; use the network as it was before quantisation"
            )


def refuse_inference(network: nn.Module) -> None:
    """Raise a ValueError that names the first weight made in inference mode, through which there is no derivative."""
    if torch.compiler.is_compiling():
        return
    for name, weight in network.named_parameters():
        if isinstance(weight, UninitializedParameter):
            raise ValueError(f"network: '{name}' is of a lazy module, still without a shape; call the network once")
        if weight.is_inference():
            raise ValueError(
                f"network: '{name}' was made under torch.inference_mode(), and PyTorch has no derivatives through it; "
                "make or load the network outside"
            )


def is_random(network: nn.Module) -> bool:
    """Whether the network has a dropout layer in training mode."""
    return any(isinstance(m, nn.modules.dropout._DropoutNd) and m.training and m.p > 0 for m in network.modules())


def check_finite(name: str, structure: Structure) -> None:
    """Raise a ValueError that names the first sample with a number that is not finite."""
    for place, leaf in named_leaves(name, structure):
        finite = torch.isfinite(leaf)
        if not bool(finite.all()):
            first = int((~finite).flatten(1).any(1).nonzero()[0]) if leaf.ndim > 1 else int((~finite).nonzero()[0])
            raise ValueError(f"{place}: {int((~finite).sum())} non-finite values, the first in sample {first}")
