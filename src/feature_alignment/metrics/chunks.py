"""Evaluating a network or measure on many images in chunks."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["CHUNK", "in_chunks"]

#: Images per call of a network or measure; bounds the memory without changing results.
CHUNK = 250


def in_chunks(function: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
    """Return ``function(*tensors)``, evaluated on :data:`CHUNK` entries of the first dimension at a time.

    Example:
        >>> in_chunks(torch.add, torch.ones(600), torch.ones(600)).shape
        torch.Size([600])
    """
    return torch.cat([function(*each) for each in zip(*(tensor.split(CHUNK) for tensor in tensors), strict=True)])
