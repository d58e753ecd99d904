"""The latents held out from a fit, on which a choice is made."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["held_out", "spare_classes"]

#: Share of the latents held out.
SHARE = 0.1


def held_out(labels: Tensor, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return the indices of the latents to fit to and of those held out, a tenth but at least one; deterministic.

    Fewer than 20 latents are too few to spare any: they are all in both.

    Args:
        labels: the class of each latent, int64, shape ``(N,)``.

    Example:
        >>> [len(part) for part in held_out(torch.zeros(50, dtype=torch.long))]
        [45, 5]
    """
    count = len(labels)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    if count < 20:
        return order, order
    spared = spare_classes(torch.arange(count) < round(SHARE * count), labels[order])
    return order[~spared], order[spared]


def spare_classes(spared: Tensor, labels: Tensor) -> Tensor:
    """Return the marks of what is held out, or, if a class would lose over half, of every tenth member of each class.

    Args:
        spared: bool, shape ``(N,)``.
        labels: the class of each, int64, shape ``(N,)``.

    Example:
        >>> labels = torch.arange(200) % 10  # every tenth is of the last class
        >>> labels[spare_classes(labels == 9, labels)].bincount()
        tensor([2, 2, 2, 2, 2, 2, 2, 2, 2, 2])
    """
    members = [(labels == label).nonzero().flatten() for label in labels.unique()]
    if all(2 * int(spared[each].sum()) <= len(each) for each in members):
        return spared
    stride, tenths = round(1 / SHARE), torch.zeros_like(spared)
    for each in members:
        tenths[each[stride - 1 :: stride]] = True
    return tenths if bool(tenths.any()) else spared  # where every class has few
