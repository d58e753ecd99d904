"""The share of units whose activation is flat where an image puts them: nothing about it gets past them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from ..pullback import any_batch, evaluation
from ..structures import Network

__all__ = ["ACTIVATIONS", "CLIPPED", "clipped_share"]

#: A unit is clipped where the absolute slope of its activation is below this.
CLIPPED = 0.01

#: Element-wise functions that count as activations, as they are called in :mod:`torch` and in
#: :mod:`torch.nn.functional`, by modules, functions and methods, also in place.
ACTIVATIONS = frozenset({
    "arcsinh", "asinh", "atan", "arctan", "celu", "clamp", "clamp_max", "clamp_min", "clip", "elu", "erf",
    "expit", "gelu", "hardshrink", "hardsigmoid", "hardswish", "hardtanh", "leaky_relu", "log_sigmoid",
    "logsigmoid", "mish", "prelu", "relu", "relu6", "rrelu", "selu", "sigmoid", "silu", "softplus", "softshrink",
    "softsign", "special_expit", "tanh", "tanhshrink", "threshold",
})  # fmt: skip


@torch.no_grad()
def clipped_share(network: Network, images: Tensor) -> float | None:
    r"""Return the share of units whose activation has a slope :math:`|\varphi'(a)| < 0.01`.

    A unit is one number that an element-wise activation is given in the evaluation of an image: every element of every
    call of a function in :data:`ACTIVATIONS`, by a module or in the network's code. If an activation is called several
    times, each counts. Softmax, pooling and what is fused with other operations, such as the gates of
    :class:`torch.nn.LSTM`, are not element-wise activations and do not count, nor does what is computed from weights
    alone.

    Args:
        network: any network, up to the depth in question.
        images: shape ``(N, ...)``.

    Returns:
        Between 0 and 1, over all units and images; none if there is no element-wise activation in Python.

    Example:
        >>> clipped_share(nn.ReLU(), torch.tensor([[-1.0, 2.0, -3.0, 4.0]]))
        0.5
        >>> clipped_share(nn.Linear(4, 2), torch.ones(1, 4))
    """
    batch = images if len(images) > 1 else images.repeat(2, *[1] * (images.ndim - 1))
    calls = _calls(network, batch)
    if any_batch(network) is network:
        # What is computed from weights alone has as many units in a batch of another size.
        others = _calls(network, batch[:2] if len(batch) > 2 else torch.cat([batch, batch[:1]]))
        if len(others) == len(calls):
            calls = [call for call, other in zip(calls, others, strict=True) if call[0] != other[0]]
    units, clipped = (sum(counts) for counts in zip(*calls, strict=True)) if calls else (0, 0)
    return clipped / units if units else None


def _calls(network: Network, images: Tensor) -> list[tuple[int, int]]:
    """Return how many units each call of an activation has, and how many of them are clipped."""
    slopes = _Slopes()
    with slopes:
        evaluation(network)(images)
    return slopes.calls


class _Slopes(TorchFunctionMode):
    """Counts the units of every call of an activation, and those clipped."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[int, int]] = []

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if _name(function) in ACTIVATIONS:
            x = args[0] if args else kwargs.get("input")
            if isinstance(x, Tensor) and x.is_floating_point():
                self._count(function, x, args[1:], {key: kwargs[key] for key in kwargs if key != "input"})
        return function(*args, **kwargs)

    def _count(self, function: Any, x: Tensor, args: Any, kwargs: Any) -> None:
        with torch.inference_mode(False), torch.enable_grad():
            point = x.detach().clone().requires_grad_()
            value = function(point.clone(), *args, **kwargs)  # a copy: it may work in place
            (slope,) = torch.autograd.grad(value.sum(), point)
        self.calls.append((slope.numel(), int((slope.abs() < CLIPPED).sum())))


def _name(function: Any) -> str:
    """Return the name of a function, a method or an operator: ``relu`` for ``relu_`` and ``aten.relu.default``."""
    name = str(getattr(function, "__name__", ""))
    return name.partition(".")[0].strip("_")
