"""What is refused before a network is aligned or inverted: inputs that do not fit, networks that mix their samples."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

__all__ = [
    "Network",
    "Structure",
    "batch_size",
    "check_finite",
    "check_floating",
    "check_independence",
    "check_output",
    "check_start",
    "is_random",
    "named_leaves",
    "refuse_batch_statistics",
]

#: A tensor, or a (nested) tuple, list or dict of tensors, each with the batch as its first dimension.
Structure: TypeAlias = Any
Network: TypeAlias = Callable[[Tensor], Structure]


def named_leaves(name: str, structure: Structure) -> Iterator[tuple[str, Any]]:
    """Yield every leaf with its place, such as ``target['mean']``."""
    for path, leaf in pytree.tree_leaves_with_path(structure):
        yield name + pytree.keystr(path), leaf


def batch_size(target: Structure) -> int:
    """Return the common first dimension of all tensors; TypeError, ValueError where there is none."""
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
    """Raise TypeError, ValueError unless it is one floating-point start, or one per sample."""
    if not isinstance(start, Tensor) or not start.is_floating_point():
        kind = start.dtype if isinstance(start, Tensor) else type(start).__name__
        raise TypeError(f"start: expected a floating-point tensor, got {kind}")
    if start.ndim == 0 or start.shape[0] not in (1, batch):
        raise ValueError(
            f"start: expected shape (1, ...), shared by the batch, or ({batch}, ...), one per sample as in "
            f"target, got {tuple(start.shape)}"
        )


def check_floating(name: str, structure: Structure) -> None:
    """Raise a TypeError that names the first leaf which is no floating-point tensor."""
    for place, leaf in named_leaves(name, structure):
        if not isinstance(leaf, Tensor) or not leaf.is_floating_point():
            kind = leaf.dtype if isinstance(leaf, Tensor) else type(leaf).__name__
            raise TypeError(f"{place}: expected a floating-point tensor, got {kind}")


def check_output(output: Structure, target: Structure, batch: int) -> None:
    """Raise TypeError, ValueError that names the tensor in which target and the network's output differ."""
    if pytree.tree_structure(output) != pytree.tree_structure(target):
        raise ValueError(
            f"target: expected the structure of the network's output, {_describe(output)}, got {_describe(target)}"
        )
    for (name, wanted), got in zip(named_leaves("target", target), pytree.tree_leaves(output), strict=True):
        place = name.replace("target", "the network's output", 1)
        if got.ndim == 0 or got.shape[0] != batch:
            raise ValueError(
                f"{place}: expected the batch of the input, {batch}, as its first dimension, "
                f"got shape {tuple(got.shape)}"
            )
        if got.shape[1:] != wanted.shape[1:]:
            raise ValueError(
                f"{name}: expected shape {(wanted.shape[0], *got.shape[1:])} like the network's output, "
                f"got {tuple(wanted.shape)}"
            )
        if got.dtype != wanted.dtype and not torch.is_autocast_enabled(got.device.type):
            raise TypeError(f"{name}: expected dtype {got.dtype} like the network's output, got {wanted.dtype}")


def _describe(structure: Structure) -> str:
    if isinstance(structure, dict):
        return "{" + ", ".join(f"{key!r}: {_describe(value)}" for key, value in structure.items()) + "}"
    if isinstance(structure, tuple | list):
        left, right = "()" if isinstance(structure, tuple) else "[]"
        return left + ", ".join(map(_describe, structure)) + right
    return type(structure).__name__


def refuse_batch_statistics(network: nn.Module) -> None:
    """Raise a ValueError that names the first layer which normalises with the statistics of the batch."""
    for name, module in network.named_modules():
        normalises = isinstance(module, nn.modules.batchnorm._BatchNorm)
        if normalises and (module.training or module.running_mean is None):
            raise ValueError(
                f"network: {type(module).__name__} at '{name}' normalises with the statistics of the batch, so a "
                "feature would depend on its neighbours; call network.eval() or use GroupNorm"
            )


def is_random(network: nn.Module) -> bool:
    """Say whether a dropout layer draws random numbers."""
    return any(isinstance(m, nn.modules.dropout._DropoutNd) and m.training and m.p > 0 for m in network.modules())


@torch.no_grad()
def check_independence(network: Network, start: Tensor) -> None:
    """Evaluate the first sample alone and beside another one: the outputs must agree."""
    first = start[:1]
    ramp = torch.linspace(-1.0, 1.0, first.numel(), dtype=start.dtype, device=start.device)
    alone = pytree.tree_leaves(network(first.clone()))  # it may work in place
    beside = pytree.tree_leaves(network(torch.cat([first, first + ramp.view_as(first)])))
    for one, two in zip(alone, beside, strict=True):
        if not isinstance(one, Tensor) or one.numel() == 0 or one.ndim == 0 or not one.is_floating_point():
            continue  # empty, or refused by name at the first step
        tolerance = math.sqrt(torch.finfo(one.dtype).eps) * float(two.abs().max() + 1)
        if float((one[:1] - two[:1]).abs().max()) > tolerance:
            raise ValueError(
                "network: the output for a sample changes with its neighbours in the batch (or is random); "
                "a feature needs a network that treats the samples of a batch independently"
            )


def check_finite(name: str, structure: Structure) -> None:
    """Raise a ValueError that names the first sample with a number that is not finite."""
    for place, leaf in named_leaves(name, structure):
        finite = torch.isfinite(leaf)
        if not bool(finite.all()):
            first = int((~finite).flatten(1).any(1).nonzero()[0]) if leaf.ndim > 1 else int((~finite).nonzero()[0])
            raise ValueError(f"{place}: {int((~finite).sum())} non-finite values, the first in sample {first}")
