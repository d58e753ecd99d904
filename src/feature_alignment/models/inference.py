"""Methods of a model that are evaluated, not trained."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar, cast

import torch
from torch import Tensor

if TYPE_CHECKING:
    from .model import Model

__all__ = ["inference"]

P = ParamSpec("P")
R = TypeVar("R")
M = TypeVar("M", bound="Model")


def inference(method: Callable[Concatenate[M, P], R]) -> Callable[Concatenate[M, P], R]:
    """Run a model's method in eval mode, without gradients, on the model's device; restore the modes afterwards."""

    def here(self: M, value: Any) -> Any:
        return value.to(self.device) if isinstance(value, Tensor) else value

    @functools.wraps(method)
    def wrapped(self: M, *args: P.args, **kwargs: P.kwargs) -> R:
        modes = [(module, module.training) for module in self.modules()]
        if any(training for _, training in modes):
            self.eval()
        try:
            with torch.no_grad():
                on_device: Any = method
                moved = {name: here(self, each) for name, each in kwargs.items()}
                return cast(R, on_device(self, *(here(self, each) for each in args), **moved))
        finally:
            for module, training in modes:
                module.training = training

    return cast(Callable[Concatenate[M, P], R], wrapped)
