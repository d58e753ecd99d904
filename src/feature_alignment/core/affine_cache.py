"""A cache of the affine map of a one-step feature, valid until the weights change."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

__all__ = ["AffineCache"]


class AffineCache:
    """Remembers an affine map until a parameter or buffer of the module that it belongs to changes."""

    def __init__(self) -> None:
        self._state: Any = None
        self._map: tuple[Tensor, Tensor] | None = None

    def __call__(self, module: nn.Module, derive: Callable[[], tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """Return what ``derive`` returns, calling it again only where ``module`` has changed.

        Args:
            module: owns everything that the map depends on.
            derive: the map, such as :func:`~feature_alignment.affine_map` of a network with ``module``'s weights.
        """
        used = [*module.parameters(), *module.buffers()]
        # An in-place write bumps `_version`, which inference tensors do not have; a replacement changes `data_ptr`.
        tracked = [each for each in used if not each.is_inference()]
        state = tuple((each.data_ptr(), each._version, each.dtype, each.device) for each in tracked)
        if self._map is None or state != self._state or len(tracked) < len(used):
            self._map, self._state = derive(), state
        return self._map
