r"""Starts of the gradient flow, :math:`r^0`: one for the whole batch or one per sample.

A start for ``N`` samples has shape ``(1, ...)`` if it is shared, which is faster, and ``(N, ...)`` if each has its own.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .draws import draw

__all__ = ["STARTS", "as_shared", "draw_start", "starts_with_noise"]


def _shared(like: Tensor, count: int) -> Tensor:
    return like.unsqueeze(0)


#: Functions that map a tensor of the shape of one sample, and a count, to starts.
STARTS: dict[str, Callable[[Tensor, int], Tensor]] = {
    "zeros": lambda like, count: torch.zeros_like(like).unsqueeze(0),
    "learned": _shared,
    "given": _shared,
    "uniform": lambda like, count: draw(lambda n: torch.rand_like(like.expand(n, *like.shape)), count),
    "normal": lambda like, count: draw(lambda n: torch.randn_like(like.expand(n, *like.shape)), count),
}


def draw_start(kind: str, like: Tensor, count: int) -> Tensor:
    """Return starts for ``count`` samples.

    Args:
        kind: ``zeros``; ``learned`` or ``given``, which is ``like`` itself; noise, fresh for every sample: ``uniform``
            on (0, 1) or ``normal``.
        like: shape, dtype and device of one sample.
        count: number of samples, at least 1.

    Returns:
        Shape ``(1, ...)`` if all samples share one start, otherwise ``(count, ...)``.

    Raises:
        ValueError: an unknown kind.
    """
    if kind not in STARTS:
        raise ValueError(f"start: expected one of {', '.join(STARTS)}, got {kind!r}")
    return STARTS[kind](like, count)


def starts_with_noise(kind: str) -> bool:
    """Whether a kind of start is drawn afresh for every sample."""
    if kind not in STARTS:
        return False
    return len(draw_start(kind, torch.empty(1, device="meta"), 2)) > 1  # on meta: draws no random number


def as_shared(start: Tensor) -> Tensor:
    """Return a start of shape ``(1, ...)`` if ``start`` is one start expanded to a batch, else ``start`` itself."""
    return start[:1] if start.shape[0] > 1 and start.stride(0) == 0 else start
