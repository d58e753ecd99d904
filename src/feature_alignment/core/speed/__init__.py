"""Without this folder every result is the same, only slower. One switch for all of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.autograd import forward_ad

__all__ = ["applies_to", "enabled", "switched"]

_on = os.environ.get("FALIGN_SPEED", "1") != "0"


def enabled() -> bool:
    """Whether the optimisations of this folder are used: yes, unless ``FALIGN_SPEED=0`` was set at import."""
    return _on


@contextmanager
def switched(on: bool) -> Iterator[None]:
    """Turn the optimisations on or off for the ``with`` block, in all threads.

    Example:
        >>> with switched(False):
        ...     enabled()
        False
    """
    global _on
    before, _on = _on, on
    try:
        yield
    finally:
        _on = before


def applies_to(x: Tensor) -> bool:
    """Whether to compute in our own way: on a CPU in full precision, outside of compilers and of transforms."""
    if not enabled() or torch.compiler.is_compiling() or torch.is_inference_mode_enabled() or x.is_inference():
        return False
    if torch._C._functorch.peek_interpreter_stack() is not None or forward_ad._current_level >= 0:
        return False
    return not torch.is_autocast_enabled("cpu") and x.device.type == "cpu" and x.dtype in (torch.float32, torch.float64)
