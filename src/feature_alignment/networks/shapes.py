"""The shape of the images that a network takes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from ..core.pullback import any_batch
from .errors import NetworkError, reason
from .images import side_of
from .loaded import Request

__all__ = ["fitting_shape"]

Shape = tuple[int, int, int]

#: Sides tried, in this order, for a network that states none.
SIDES = (224, 32, 28, 64, 96, 128, 160, 192, 256, 299, 384, 48, 112, 16, 8)


def fitting_shape(module: Callable[..., Any], own: Shape | None, request: Request) -> Shape:
    """Return the shape of images to give to a network, after one evaluation there.

    Args:
        module: the network.
        own: the shape that it states, if it does.
        request: may ask for another size, or have images of some size.

    Raises:
        NetworkError: the network fails there. The message has a shape at which it does not, if there is one.
    """
    if own is not None:
        shapes = [own if request.size is None else (own[0], request.size, request.size)]
    elif request.size or request.images:
        side = request.size or side_of(request.images)
        shapes = [(channels, side, side) for channels in _channels(module)]
    else:
        shapes = [*_guesses(module)]
    failures = []
    for shape in shapes:
        failure = _failure(module, shape)
        if failure is None:
            return shape
        failures.append(failure)
    raise NetworkError(_message(module, own, request, shapes[0], failures[0]))


def _message(module: Callable[..., Any], own: Shape | None, request: Request, tried: Shape, failure: Exception) -> str:
    said = f"{request.text}: cannot take images of {_text(tried)}"
    others = [own] if own else _guesses(module)
    if request.size is None and not request.images:
        return f"{said}, nor of other usual sizes; is --size missing? ({reason(failure)})"
    works = next((shape for shape in others if shape != tried and _failure(module, shape) is None), None)
    return f"{said}{f'; it takes {_text(works)}: --size {works[-1]}' if works else ''} ({reason(failure)})"


def _text(shape: Shape) -> str:
    return " x ".join(map(str, shape))


@torch.no_grad()
def _failure(module: Callable[..., Any], shape: Shape) -> Exception | None:
    """Return what the network raises for an image of a shape, if it does."""
    weight = next(module.parameters(), None) if isinstance(module, nn.Module) else None
    device = torch.device("cpu") if weight is None else weight.device
    try:
        any_batch(module)(torch.full((1, *shape), 0.5, device=device))
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        return error
    return None


def _guesses(module: Callable[..., Any]) -> Iterator[Shape]:
    first = _first_layer(module)
    if isinstance(first, nn.Linear):
        for channels in (1, 3):
            side = math.isqrt(first.in_features // channels)
            if channels * side * side == first.in_features:
                yield channels, side, side
    for channels in _channels(module):
        yield from ((channels, side, side) for side in SIDES)


def _channels(module: Callable[..., Any]) -> tuple[int, ...]:
    first = _first_layer(module)
    if isinstance(first, nn.Conv2d) and first.in_channels in (1, 3):
        return (first.in_channels,)
    return (3, 1)


def _first_layer(module: Callable[..., Any]) -> nn.Module | None:
    modules = module.modules() if isinstance(module, nn.Module) else ()
    return next((each for each in modules if isinstance(each, nn.Conv2d | nn.Linear)), None)
