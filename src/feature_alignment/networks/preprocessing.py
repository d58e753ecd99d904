"""What a library does with pixels before its network, and with outputs after it, put inside the network.

By hooks on the network itself, so that its modules keep their names. They are differentiated with it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["Colours", "colour_map", "normalisation", "on_pixels", "return_part"]

#: From images with pixels in [0, 1] to what a network expects, of the same height and width.
Colours: TypeAlias = Callable[[Tensor], Tensor]


def on_pixels(network: nn.Module, transform: Colours) -> None:
    """Apply a function to the network's input before it is evaluated."""

    def before(_: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        return transform(inputs[0]), *inputs[1:]

    network.register_forward_pre_hook(before)


def normalisation(mean: Sequence[float], std: Sequence[float]) -> Colours:
    r"""Return :math:`x \mapsto (x - \mu_c) / \sigma_c`, by channel; one number is for all of them.

    Raises:
        ValueError: on images of another number of channels, which would be broadcast to these.

    Example:
        >>> normalisation([0.5], [0.25])(torch.full((1, 1, 1, 1), 0.75)).item()
        1.0
    """
    shift, scale = (torch.tensor([*each], dtype=torch.float64).view(-1, 1, 1) for each in (mean, std))

    def normalised(x: Tensor) -> Tensor:
        if len(shift) not in (1, x.shape[-3]):
            raise ValueError(f"mean and std of {len(shift)} channels for images of {x.shape[-3]}")
        return (x - shift.to(x)) / scale.to(x)

    return normalised


def colour_map(matrix: Tensor, offset: Tensor) -> Colours:
    """Return the function that maps the colour of every pixel: ``matrix @ colour + offset``.

    Args:
        matrix: shape ``(channels, C)``.
        offset: shape ``(channels,)``.
    """
    kernel = matrix[..., None, None]
    return lambda x: functional.conv2d(x, kernel.to(x), offset.to(x))


def return_part(network: nn.Module, names: Sequence[str]) -> None:
    """Have the network return only the first of the named attributes that its output has."""

    def after(_: nn.Module, inputs: Any, output: Any) -> Any:
        found = (getattr(output, name, None) for name in names)
        return next((part for part in found if part is not None), output)

    network.register_forward_hook(after)
