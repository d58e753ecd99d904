"""A cache of the affine map of a one-step feature, valid until the weights change."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

__all__ = ["AffineCache"]


class AffineCache:
    """Remembers an affine map until a parameter or buffer of the module that it belongs to changes."""

    def __init__(self) -> None:
        self._used: list[Tensor] = []
        self._map: tuple[Tensor, Tensor] | None = None

    def __call__(self, module: nn.Module, derive: Callable[[], tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """Return what ``derive`` returns, calling it again only where ``module`` has changed.

        Args:
            module: owns everything that the map depends on.
            derive: the map, such as :func:`~feature_alignment.affine_map` of a network with ``module``'s weights.
        """
        used = [*module.parameters(), *module.buffers()]
        # By value: neither fused optimisers nor writes into `.data` leave a trace in a tensor's `_version`.
        if self._map is None or len(used) != len(self._used) or not all(map(_same, used, self._used)):
            self._map, self._used = derive(), [each.detach().clone() for each in used]
        return self._map


def _same(one: Tensor, other: Tensor) -> bool:
    return one.dtype == other.dtype and one.device == other.device and torch.equal(one, other)
