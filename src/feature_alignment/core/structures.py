"""Outputs of networks: a tensor, or a nested tuple, list or dict of tensors."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

__all__ = [
    "Network",
    "Structure",
    "describe",
    "from_rows",
    "hookable",
    "named_leaves",
    "rows",
    "standard",
    "tensors",
    "wide",
]

#: A tensor, or a (nested) tuple, list or dict of tensors, each with the batch as its first dimension, or ``None``.
Structure: TypeAlias = Any
Network: TypeAlias = Callable[[Tensor], Structure]


def named_leaves(name: str, structure: Structure) -> Iterator[tuple[str, Any]]:
    """Yield every leaf but ``None`` with its place, such as ``target['mean']``."""
    for path, leaf in pytree.tree_leaves_with_path(structure):
        if leaf is not None:
            yield name + pytree.keystr(path), leaf


def tensors(structure: Structure) -> list[Tensor]:
    """Return every leaf but ``None``."""
    return [leaf for leaf in pytree.tree_leaves(structure) if leaf is not None]


def standard(structure: Structure) -> Structure:
    """Convert mappings and dataclasses that are not registered as pytrees into dicts of their parts."""
    if all(leaf is None or isinstance(leaf, Tensor) for leaf in pytree.tree_leaves(structure)):
        return structure
    return pytree.tree_map(_as_dict, structure)


def _as_dict(leaf: Any) -> Any:
    if isinstance(leaf, Mapping):
        return standard(dict(leaf))
    if dataclasses.is_dataclass(leaf) and not isinstance(leaf, type):
        return standard({field.name: getattr(leaf, field.name) for field in dataclasses.fields(leaf)})
    return leaf


def rows(outputs: Structure) -> Tensor:
    """Flatten and concatenate all outputs of each sample, shape ``(N, K)``."""
    return torch.cat([leaf.flatten(1) if leaf.ndim > 1 else leaf.unsqueeze(1) for leaf in tensors(outputs)], 1)


def wide(numbers: Tensor) -> Tensor:
    """Return numbers in float32 if they are in half precision, whose squares overflow above 256 and vanish early."""
    return numbers.float() if numbers.dtype in (torch.half, torch.bfloat16) else numbers


def hookable(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield the modules of a network by name but those of TorchScript, which call no hooks."""
    return ((name, each) for name, each in network.named_modules() if not isinstance(each, torch.jit.ScriptModule))


def from_rows(numbers: Tensor, like: Structure) -> Structure:
    """Invert :func:`rows`: map shape ``(N, K)`` to the structure, dtypes and sample shapes of ``like``."""
    parts = tensors(like)
    widths = [leaf[:1].numel() for leaf in parts]
    found = iter(
        columns.reshape(numbers.shape[0], *leaf.shape[1:]).to(leaf.dtype)
        for columns, leaf in zip(numbers.split(widths, 1), parts, strict=True)
    )
    return pytree.tree_map(lambda leaf: None if leaf is None else next(found), like)


def describe(structure: Structure) -> str:
    """Return a description of a structure with the types of its leaves, such as ``{'z': Tensor}``.

    Example:
        >>> from collections import OrderedDict
        >>> describe(OrderedDict(z=torch.zeros(1))), describe((None, torch.zeros(1)))
        ("OrderedDict({'z': Tensor})", '(None, Tensor)')
    """
    kind = type(structure).__name__
    if isinstance(structure, dict):
        found = "{" + ", ".join(f"{key!r}: {describe(value)}" for key, value in structure.items()) + "}"
        return found if type(structure) is dict else f"{kind}({found})"
    if isinstance(structure, tuple | list):
        left, right = "[]" if isinstance(structure, list) else "()"
        found = left + ", ".join(map(describe, structure)) + right
        return found if type(structure) in (tuple, list) else f"{kind}{found}"
    return "None" if structure is None else type(structure).__name__
