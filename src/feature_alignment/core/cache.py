"""A cache of what follows from a module's weights, valid until they change."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

__all__ = ["Cache"]

T = TypeVar("T")


class Cache(Generic[T]):
    """Remembers what was derived from a module until one of its parameters or buffers changes; a copy is empty."""

    def __init__(self) -> None:
        self._used: list[Tensor] | None = None
        self._derived: Any = None

    def __call__(self, module: nn.Module, derive: Callable[[], T]) -> T:
        """Return what ``derive`` returns, calling it again only where ``module`` has changed.

        Args:
            module: owns everything that the result depends on.
            derive: derives it, such as :func:`~feature_alignment.affine_map` of a network with ``module``'s weights.
        """
        used = [*module.parameters(), *module.buffers()]
        # By value: neither fused optimisers nor writes into `.data` leave a trace in a tensor's `_version`.
        if self._used is None or len(used) != len(self._used) or not all(map(_same, used, self._used)):
            self._derived, self._used = derive(), [each.detach().clone() for each in used]
        return self._derived  # type: ignore[no-any-return]

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), ()  # what was derived may refer to the weights of the module that is copied


def _same(one: Tensor, other: Tensor) -> bool:
    return one.dtype == other.dtype and one.device == other.device and torch.equal(one, other)
