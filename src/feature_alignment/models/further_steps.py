r"""Training for steps beyond T, so that more steps at inference bring a feature nearer to its image, not further.

A flow that is trained for T steps alone may drift away from the image afterwards. Therefore part of every batch goes
on from its feature for :math:`k` further steps, :math:`k` running through :math:`1, \dots, K`, and the loss is

.. math::
    \tfrac12 \lVert x - \hat r^{\,T} \rVert^2 + \tfrac12 \lVert x - \hat r^{\,T+k} \rVert^2

The gradient is propagated through the last of the further steps only, as in the training of deep equilibrium
models: one update costs little more, whatever :math:`K` is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from ..core.draws import part
from .losses import squared_error

if TYPE_CHECKING:
    from ..core.structures import Structure
    from .snapshot import Snapshot

__all__ = ["SHARE", "further_error"]

#: One in so many images of a batch takes further steps.
SHARE = 8


def further_error(network: Snapshot, images: Tensor, target: Structure, iterate: Tensor, updates_done: int) -> Tensor:
    r"""Return the mean of :math:`\lVert x - \hat r^{\,T+k} \rVert^2` over an eighth of the batch, shape ``()``.

    Args:
        network: the encoder and its heads, whose model has the option ``further_steps``, :math:`K`.
        images: :math:`x`, shape ``(N, C, H, W)``.
        target: of each image, batch size ``N``.
        iterate: after T steps, shape ``(N, C, H, W)``.
        updates_done: number of updates before this one, which determines :math:`k`.
    """
    model, ours = network.model, part()
    chosen = -(-len(images) * ours.processes // SHARE)  # of the whole batch, in all processes
    count = ours.among_first(chosen)
    if not count:
        return images.new_zeros(())
    target = pytree.tree_map(lambda part: part[:count], target)
    place = iterate[:count].detach()
    with torch.no_grad():
        for _ in range(updates_done % model.options.further_steps):
            place = network.further(target, place)
    error = squared_error(images[:count], model.squashed(network.further(target, place))).mean()
    return error * (count * ours.processes / chosen)  # the mean over the processes is that over all images chosen
