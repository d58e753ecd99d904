"""A bound on the size of a sample that keeps its direction."""

from __future__ import annotations

from torch import Tensor

from .structures import wide

__all__ = ["bounded"]


def bounded(samples: Tensor, bound: float) -> Tensor:
    r"""Scale down samples whose root mean square is above a bound: :math:`a \min(1, \rho / \operatorname{rms}(a))`.

    Args:
        samples: shape ``(N, ...)``.
        bound: :math:`\rho`, above 0.

    Example:
        >>> import torch
        >>> bounded(torch.tensor([[3.0, 4.0], [0.3, 0.4]]), 0.5**0.5)
        tensor([[0.6000, 0.8000],
                [0.3000, 0.4000]])
    """
    mean_square = wide(samples).flatten(1).square().mean(1).view(-1, *[1] * (samples.ndim - 1))
    # Clamped before the root: exactly 1 within the bound, and no infinite derivative at 0.
    return samples / (mean_square / bound**2).clamp(min=1).sqrt().to(samples.dtype)
