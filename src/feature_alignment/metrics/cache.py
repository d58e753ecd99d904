"""Tensors that are computed once for a data set."""

from __future__ import annotations

from collections.abc import Callable

from safetensors.torch import load_file, save_file
from torch import Tensor

from ..data import cache_directory
from ..files import atomic_path

__all__ = ["cached_tensors"]


def cached_tensors(name: str, compute: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    """Return the tensors cached under ``name``; compute and cache them if they are missing."""
    place = cache_directory() / f"{name}.safetensors"
    if place.is_file():
        return load_file(place)
    tensors = compute()
    with atomic_path(place) as scratch:
        save_file(tensors, scratch)
    return tensors
