"""The inverses of activations, by type."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn

from ..layers import Arcsinh

__all__ = ["INVERSES", "register_inverse"]

Inverse = Callable[[nn.Module, Tensor], Tensor]

#: Largest value that the inverse of arcsinh returns.
LARGEST = 1e6


def _leaky_relu_inverse(layer: nn.Module, y: Tensor) -> Tensor:
    return torch.where(y < 0, y / cast(nn.LeakyReLU, layer).negative_slope, y)


def _arcsinh_inverse(layer: nn.Module, y: Tensor) -> Tensor:
    # Layers of sinh in a row overflow at an unlikely output, as do the squares of a loss before; a sum of infinities
    # is no number. What arcsinh is given for an image is far smaller.
    bound = math.asinh(min(LARGEST, math.sqrt(torch.finfo(y.dtype).max)))
    return torch.sinh(y.clamp(-bound, bound))


def _tanh_inverse(layer: nn.Module, y: Tensor) -> Tensor:
    return torch.atanh(y.clamp(torch.finfo(y.dtype).eps - 1, 1 - torch.finfo(y.dtype).eps))


#: The inverses of layers without weights, by type; a feature outside the layer's range is taken to its edge.
INVERSES: dict[type[nn.Module], Inverse] = {
    Arcsinh: _arcsinh_inverse,
    nn.Tanh: _tanh_inverse,
    nn.Sigmoid: lambda layer, y: torch.logit(y, torch.finfo(y.dtype).eps),
    nn.LeakyReLU: _leaky_relu_inverse,
    nn.Identity: lambda layer, y: y,
}


def register_inverse(kind: type[nn.Module], inverse: Inverse) -> None:
    """Make an activation usable in a :class:`LocalNetwork`.

    Args:
        kind: type of the activation module.
        inverse: maps the module and its output to its input, exactly; elementwise or not.
    """
    INVERSES[kind] = inverse
