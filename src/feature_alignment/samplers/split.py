"""The latents held out from a fit, on which a choice is made."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["held_out"]

#: Share of the latents held out.
SHARE = 0.1


def held_out(count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return the indices of the latents to fit to and of those held out, a tenth but at least one; deterministic.

    Fewer than 20 latents are too few to spare any: they are all in both.

    Example:
        >>> [len(part) for part in held_out(50)]
        [45, 5]
    """
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    if count < 20:
        return order, order
    spared = round(SHARE * count)
    return order[spared:], order[:spared]
