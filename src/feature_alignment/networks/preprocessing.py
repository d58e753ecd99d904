"""What a library does with pixels before its network, and with outputs after it, put inside the network.

By hooks on the network itself, so that its modules keep their names. They are differentiated with it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["normalise", "on_pixels", "return_part", "transform_colours"]


def on_pixels(network: nn.Module, transform: Callable[[Tensor], Tensor]) -> None:
    """Apply a function to the network's input before it is evaluated."""

    def before(_: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        return transform(inputs[0]), *inputs[1:]

    network.register_forward_pre_hook(before)


def normalise(network: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
    r"""Have the network normalise its input: :math:`(x - \mu_c) / \sigma_c`, by channel.

    Example:
        >>> network = nn.Identity()
        >>> normalise(network, [0.5], [0.25])
        >>> network(torch.full((1, 1, 1, 1), 0.75)).item()
        1.0
    """
    shift, scale = (torch.tensor([*each], dtype=torch.float64).view(-1, 1, 1) for each in (mean, std))
    on_pixels(network, lambda x: (x - shift.to(x)) / scale.to(x))


def transform_colours(network: nn.Module, matrix: Tensor, offset: Tensor) -> None:
    """Have the network map the colour of every pixel: ``matrix @ colour + offset``.

    Args:
        network: any network.
        matrix: shape ``(channels, C)``.
        offset: shape ``(channels,)``.
    """
    kernel = matrix[..., None, None]
    on_pixels(network, lambda x: functional.conv2d(x, kernel.to(x), offset.to(x)))


def return_part(network: nn.Module, names: Sequence[str]) -> None:
    """Have the network return only the first of the named attributes that its output has."""

    def after(_: nn.Module, inputs: Any, output: Any) -> Any:
        found = (getattr(output, name, None) for name in names)
        return next((part for part in found if part is not None), output)

    network.register_forward_hook(after)
