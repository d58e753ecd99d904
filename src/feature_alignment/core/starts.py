r"""Where the gradient flow starts: :math:`r^0`, one for the whole batch or one per sample.

A start for ``N`` samples has shape ``(1, ...)`` if it is shared, which is faster, and ``(N, ...)`` if each has its own.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["STARTS", "as_shared", "draw_start"]


def _shared(like: Tensor, count: int) -> Tensor:
    return like.unsqueeze(0)


#: From a tensor of the shape of one sample, and a count, to starts. What is shared starts at that tensor itself.
STARTS: dict[str, Callable[[Tensor, int], Tensor]] = {
    "zeros": lambda like, count: torch.zeros_like(like).unsqueeze(0),
    "learned": _shared,
    "given": _shared,
    "uniform": lambda like, count: torch.rand_like(like.expand(count, *like.shape)),
    "normal": lambda like, count: torch.randn_like(like.expand(count, *like.shape)),
}


def draw_start(kind: str, like: Tensor, count: int) -> Tensor:
    """Return starts for ``count`` samples.

    Args:
        kind: ``zeros``; ``learned`` or ``given``, which is ``like`` itself; noise, fresh for every sample: ``uniform``
            on (0, 1) or ``normal``.
        like: shape, dtype and device of one sample.
        count: samples, at least 1.

    Returns:
        Shape ``(1, ...)`` where all samples share one, otherwise ``(count, ...)``.

    Raises:
        ValueError: an unknown kind.
    """
    if kind not in STARTS:
        raise ValueError(f"start: expected one of {', '.join(STARTS)}, got {kind!r}")
    return STARTS[kind](like, count)


def as_shared(start: Tensor) -> Tensor:
    """Return one start where ``start`` is one, expanded to a batch."""
    return start[:1] if start.shape[0] > 1 and start.stride(0) == 0 else start
