"""What loading a network gives, and what it is asked with."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from .preprocessing import Colours

__all__ = ["LoadedNetwork", "Request", "Source", "value_of"]


@dataclass(frozen=True)
class LoadedNetwork:
    """A network in eval mode, ready to be differentiated with respect to pixels.

    Attributes:
        name: as the user gave it.
        module: from pixels in [0, 1], shape ``(N, C, H, W)``, to outputs. The preprocessing of colours, the weights'
            own or the one asked for, is inside; resizing is not. Its weights require no gradient.
        image_shape: ``(C, H, W)``.
        class_names: of the outputs, if they are known.
        white: the values of white by which images of more than 8 bits are scaled, as far as they are known; those of
            the training images, see :attr:`feature_alignment.data.Images.white`.
    """

    name: str
    module: Any
    image_shape: tuple[int, int, int]
    class_names: tuple[str, ...] | None = None
    white: Mapping[str, float] = field(default_factory=dict)

    @property
    def layers(self) -> tuple[str, ...]:
        """The names of the modules inside, for :func:`~feature_alignment.select`; those of the user's own network."""
        if not isinstance(self.module, nn.Module):
            return ()
        return tuple(name for name, _ in self.module.named_modules() if name)


@dataclass(frozen=True)
class Request:
    """How a network is asked for.

    Attributes:
        text: NETWORK, as the user gave it.
        name: what follows the library's prefix.
        size: side of the images; none for the weights' own.
        weights: a file of weights; none for the library's own.
        random: whether untrained weights are wanted.
        init: arguments of the constructor, as text.
        normalisation: mean and standard deviation by channel; none for the library's own.
        images: files whose size is used where the weights have none.
    """

    text: str
    name: str
    size: int | None = None
    weights: Path | None = None
    random: bool = False
    init: Mapping[str, str] = field(default_factory=dict)
    normalisation: tuple[Sequence[float], Sequence[float]] | None = None
    images: tuple[Path, ...] = ()

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments of the constructor, as values."""
        return {name: value_of(text) for name, text in self.init.items()}


@dataclass(frozen=True)
class Source:
    """What a library gives: the fields are those of :class:`LoadedNetwork`, the shape only if it is known.

    Attributes:
        colours: what the library does with pixels before the network.
    """

    module: Callable[..., Any]
    image_shape: tuple[int, int, int] | None = None
    class_names: tuple[str, ...] | None = None
    white: Mapping[str, float] = field(default_factory=dict)
    colours: Colours | None = None


def value_of(text: str) -> Any:
    """Return the value that a text stands for, in JSON's or Python's notation, otherwise the text.

    Example:
        >>> value_of("3"), value_of("[4, 8]"), value_of("(4, 8)"), value_of("true"), value_of("relu")
        (3, [4, 8], (4, 8), True, 'relu')
    """
    for read in (json.loads, ast.literal_eval):
        try:
            return read(text)
        except (ValueError, SyntaxError):
            continue
    return text
