"""Networks by name."""

from __future__ import annotations

import importlib
import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import nn

from ..files import user_path
from .errors import NetworkError, nearest
from .loaded import LoadedNetwork, Request, Source
from .preprocessing import Colours, normalisation, on_pixels
from .shapes import fitting_shape

__all__ = ["SOURCES", "load_network"]

#: The module of :mod:`.sources` for each prefix; its ``build(request)`` returns a :class:`Source`.
SOURCES = {"torchvision": "of_torchvision", "timm": "of_timm", "transformers": "of_transformers"}

DOTTED = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")


def load_network(
    name: str,
    *,
    size: int | None = None,
    weights: Path | None = None,
    random: bool = False,
    init: Mapping[str, str] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    device: torch.device | str = "cpu",
    images: Sequence[Path] = (),
) -> LoadedNetwork:
    r"""Load a network by name. Nothing is downloaded.

    Args:
        name: the directory of a run; ``torchvision:NAME``, ``timm:NAME`` or ``transformers:NAME``, with weights from
            the user's cache; ``package.module:Class``, or a function, which is called and returns a network
            (found from the working directory too); or a ``.pt2`` file of :mod:`torch.export`.
        size: side of the images; by default the weights' own, otherwise that of ``images``, otherwise one that the
            network accepts.
        weights: a state dict, in safetensors or PyTorch's format, instead of the cache's.
        random: untrained weights, by PyTorch's global random numbers.
        init: arguments of the class, of the function or of the library's constructor, in JSON's or Python's notation.
        mean, std: what the network expects its images to be normalised by, :math:`(x - \mu_c) / \sigma_c`: one number,
            or one a channel. By default what the library states for the weights, which is also that of other weights
            of ``torchvision:`` and ``timm:``, and nothing for a network of the user's own.
        device: of the network.
        images: files, for their size.

    Raises:
        NetworkError: the network or its weights are not there, do not fit each other, or do not fit the images.
        MissingExtra: the library is not installed.

    Example:
        >>> loaded = load_network("torch.nn:Conv2d", init={"in_channels": "3", "out_channels": "4", "kernel_size": "3"})
        >>> loaded.module(torch.rand(2, *loaded.image_shape)).shape
        torch.Size([2, 4, 222, 222])
    """
    if size is not None and size < 1:
        raise NetworkError(f"--size: expected at least 1, got {size}")
    if random and weights:
        raise NetworkError("--random and --weights: give one of them")
    build, rest = _source_of(name)
    own = _checked(mean, std)
    request = Request(name, rest, size, weights, random, dict(init or {}), own, tuple(images))
    source = build(request)
    module = _ready(source.module, device)
    module = _on_pixels(module, normalisation(*own) if own else source.colours)
    shape = fitting_shape(module, source.image_shape, request)
    return LoadedNetwork(name, module, shape, source.class_names, source.white)


def _source_of(name: str) -> tuple[Callable[[Request], Source], str]:
    """Return what builds the network, and the name it is given."""
    path, (prefix, colon, rest) = user_path(name), name.partition(":")
    if name and path.is_dir():
        return _builder("of_runs"), str(path)
    if name.endswith(".pt2"):
        return _builder("of_exports"), str(path)
    if prefix in SOURCES:
        return _builder(SOURCES[prefix]), rest
    if prefix.endswith(".py") and colon:
        raise NetworkError(
            f"{name}: a module's name has no ending; write {name.replace('.py:', ':').replace('/', '.')}"
        )
    if DOTTED.fullmatch(prefix) and DOTTED.fullmatch(rest):
        return _builder("of_modules"), name
    dotted = DOTTED.fullmatch(name) and name.replace(".", ":", 1) if name.count(".") == 1 else ""
    hint = f"; did you mean {dotted}?" if dotted else nearest(prefix, SOURCES) if colon else ""
    raise NetworkError(
        f"{name}: no such network; expected the directory of a run, {', '.join(f'{each}:NAME' for each in SOURCES)}, "
        f"package.module:Class, or a .pt2 file{hint}"
    )


def _builder(module: str) -> Callable[[Request], Source]:
    found: Callable[[Request], Source] = importlib.import_module(f".sources.{module}", __package__).build
    return found


def _checked(
    mean: Sequence[float] | None, std: Sequence[float] | None
) -> tuple[Sequence[float], Sequence[float]] | None:
    if mean is None and std is None:
        return None
    if mean is None or std is None or len(mean) != len(std) or not mean:
        sizes = [0 if each is None else len(each) for each in (mean, std)]
        raise NetworkError(f"--mean and --std: give as many numbers for both, got {sizes[0]} and {sizes[1]}")
    if not all(map(math.isfinite, [*mean, *std])) or min(std) <= 0:
        raise NetworkError(f"--mean and --std: expected finite numbers, those of --std above 0, got {[*mean, *std]}")
    return mean, std


def _on_pixels(module: Callable[..., object], colours: Colours | None) -> Callable[..., object]:
    if colours is None:
        return module
    if not isinstance(module, nn.Module):
        return lambda images: module(colours(images))
    on_pixels(module, colours)
    return module


def _ready(module: Callable[..., object], device: torch.device | str) -> Callable[..., object]:
    if not isinstance(module, nn.Module):
        return module
    return module.eval().requires_grad_(False).to(device)
