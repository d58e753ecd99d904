"""Updates under Lightning Fabric, with its mixed precision and distributed data parallelism."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any, cast

from lightning_fabric import Fabric
from torch import Tensor, nn

from ..models import Loss, Model, Updates

__all__ = ["FabricUpdates"]


class _Trained(nn.Module):
    """The parameters of one optimiser as the module that Fabric wraps; its forward pass evaluates the loss."""

    def __init__(self, parameters: Iterable[nn.Parameter]) -> None:
        super().__init__()
        self.trained = nn.ParameterList(parameters)

    def forward(self, loss: Callable[[], Loss]) -> Loss:
        return loss()


class FabricUpdates(Updates):
    """:class:`Updates` whose losses are evaluated and differentiated by Fabric.

    Every optimiser has its own wrapper, so that only the gradients of its parameters are exchanged.
    """

    def __init__(self, fabric: Fabric, model: Model, total: int, done: int = 0) -> None:
        super().__init__(model, total, done)
        self.fabric, self.processes = fabric, fabric.world_size
        self.wrapped: dict[str, Any] = {}
        for name, optimizer in self.optimizers.items():
            trained = _Trained(self.parameters[name])
            self.wrapped[name], self.optimizers[name] = fabric.setup(trained, optimizer, move_to_device=False)

    def arithmetic(self) -> AbstractContextManager[None]:  # noqa: D102
        return self.fabric.autocast()

    def evaluate(self, name: str, loss: Callable[[], Loss]) -> Loss:  # noqa: D102
        return cast(Loss, self.wrapped[name](loss))

    def backward(self, total: Tensor) -> None:  # noqa: D102
        self.fabric.backward(total)

    def clip(self, name: str, largest: float) -> None:  # noqa: D102
        # Fabric's own clipping refuses fused optimisers in mixed precision; only scaled gradients would need that.
        nn.utils.clip_grad_norm_(self.parameters[name], largest)
