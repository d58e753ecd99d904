"""A cache of what follows from weights, valid until they change."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

__all__ = ["Cache"]

T = TypeVar("T")


class Cache(Generic[T]):
    """Remembers what was derived from tensors until one of them changes; a copy is empty."""

    def __init__(self) -> None:
        self._used: list[Tensor] | None = None
        self._derived: Any = None

    def __call__(self, used: Sequence[Tensor], derive: Callable[[], T]) -> T:
        """Return what ``derive`` returns, calling it again only where ``used`` has changed.

        Args:
            used: everything that the result depends on, such as a network's parameters and buffers.
            derive: derives it, such as :func:`~feature_alignment.affine_map` of the network.
        """
        # By value: neither fused optimisers nor writes into `.data` leave a trace in a tensor's `_version`.
        if self._used is None or len(used) != len(self._used) or not all(map(_same, used, self._used)):
            self._derived, self._used = derive(), [each.detach().clone() for each in used]
        return self._derived  # type: ignore[no-any-return]

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), ()  # what was derived may refer to the weights of the module that is copied


def _same(one: Tensor, other: Tensor) -> bool:
    return one.dtype == other.dtype and one.device == other.device and torch.equal(one, other)
