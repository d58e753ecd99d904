"""Moving averages of a network's weights: trained with its weights, evaluated with their average."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from ..core.structures import wide

__all__ = ["Averaged", "averaged", "update_average"]


class Averaged(nn.Module):
    r"""A network that is evaluated with an exponential moving average of its weights.

    In training mode it is the network itself, in eval mode a copy whose weights :math:`\bar\theta` follow the
    network's, :math:`\theta`. After the ``n``-th call of :meth:`update`, n = 0, 1, ...,

    .. math::
        \bar\theta_0 = \theta_0, \qquad
        \bar\theta_n = d_n \bar\theta_{n-1} + (1 - d_n) \theta_n, \qquad
        d_n = \min\Bigl(d, \frac{1 + n}{10 + n}\Bigr)

    so that early weights are forgotten. Buffers, such as batch normalisation's, are the network's at the last update.
    The copy is part of the state, needs no gradients, and stays in float32 where the network is in half precision: one
    part in 200 of a small change is less than the spacing of its numbers.

    Args:
        live: the network that is trained.
        decay: :math:`d`, above 0 and below 1.

    Example:
        >>> network = Averaged(nn.Linear(1, 1, bias=False), decay=0.9)
        >>> for value in (2.0, 4.0):
        ...     _ = nn.init.constant_(network.live.weight, value)
        ...     network.update()
        >>> one = torch.ones(1, 1)
        >>> network.train()(one).item(), round(network.eval()(one).item(), 4)  # d_1 = 2 / 11
        (4.0, 3.6364)
    """

    def __init__(self, live: nn.Module, decay: float) -> None:
        super().__init__()
        self.live, self.decay = live, decay
        self.average = AveragedModel(live, multi_avg_fn=self._average).requires_grad_(False)

    def _apply(self, function: Any, recurse: bool = True) -> Averaged:
        super()._apply(function, recurse)  # type: ignore[no-untyped-call, unused-ignore]
        self.average._apply(wide, recurse)  # type: ignore[no-untyped-call, unused-ignore]
        return self

    def forward(self, *args: Tensor | None) -> Any:
        """Apply the network, or in eval mode its average, whose output is of the dtype of the input."""
        if self.training:
            return self.live(*args)
        found = self.average(*(None if each is None else wide(each) for each in args))
        return found.to(args[0].dtype) if isinstance(found, Tensor) and args[0] is not None else found

    def update(self) -> None:
        """Take the network's present weights into the average; once after every update of the network."""
        self.average.update_parameters(cast(nn.Module, _Wide(self.live)))

    def _average(self, average: Any, current: Any, count: Tensor | int) -> None:
        decay = min(self.decay, (1 + int(count)) / (10 + int(count)))
        with torch.no_grad():
            for mean, value in zip(average, current, strict=True):
                mean.lerp_(value, 1 - decay)


class _Wide:
    """A network's weights and buffers in the precision of the average, all that ``AveragedModel`` reads of it."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network

    def parameters(self) -> Iterator[Tensor]:
        return map(wide, self.network.parameters())

    def buffers(self) -> Iterator[Tensor]:
        return map(wide, self.network.buffers())


def averaged(network: nn.Module, decay: float) -> nn.Module:
    """Return the network, wrapped in :class:`Averaged` unless ``decay`` is 0."""
    return Averaged(network, decay) if decay else network


def update_average(network: nn.Module) -> None:
    """Update the average of a network that has one."""
    if isinstance(network, Averaged):
        network.update()
