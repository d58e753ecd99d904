"""The affine map of a one-step feature, derived once for as long as the weights stay as they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from torch import Tensor, nn

from .checks import Network
from .linearization import affine_map

__all__ = ["AffineCache"]


class AffineCache:
    """Remembers :func:`affine_map` of a module until one of its parameters or buffers changes."""

    def __init__(self) -> None:
        self._state: Any = None
        self._map: tuple[Tensor, Tensor] | None = None

    def __call__(
        self,
        module: nn.Module,
        network: Callable[[], Network],
        start: Tensor,
        step_size: float | Tensor | Literal["auto"],
    ) -> tuple[Tensor, Tensor]:
        """Return :func:`affine_map` of ``network()`` at ``start``, derived again only where ``module`` has changed.

        Args:
            module: owns everything that the map depends on.
            network: makes the network, with ``module``'s weights.
            start, step_size: as for :func:`affine_map`.
        """
        used = [*module.parameters(), *module.buffers()]
        # An in-place write bumps `_version`, which inference tensors do not have; a replacement changes `data_ptr`.
        tracked = [each for each in used if not each.is_inference()]
        state = tuple((each.data_ptr(), each._version, each.dtype, each.device) for each in tracked)
        if self._map is None or state != self._state or len(tracked) < len(used):
            self._map, self._state = affine_map(network(), start, step_size), state
        return self._map
