"""Tensors that are computed once for a data set."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import suppress

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from ..data import cache_directory
from ..files import portable, write_atomically

__all__ = ["cached_tensors"]


def cached_tensors(name: str, key: str, compute: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    """Return the tensors cached under a name, of which only the beginning may be used, and a key.

    They are computed and cached if they are missing or damaged.
    """
    place = cache_directory() / f"{portable(name)}-{key}.safetensors"
    with suppress(SafetensorError, OSError):
        return load(place.read_bytes())  # not by its path, which need not be text
    tensors = compute()
    try:
        write_atomically(place, save(tensors))
    except OSError as error:  # a shared cache, or a full disk, is no reason to lose what follows
        warnings.warn(f"{place}: cannot be kept for the next time ({error.strerror or error})", stacklevel=2)
    return tensors
