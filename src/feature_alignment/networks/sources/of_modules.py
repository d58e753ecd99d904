"""Networks of the user's own: a class or a function in an importable module."""

from __future__ import annotations

import copy
import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import nn

from ..errors import NetworkError, nearest, reason
from ..loaded import Request, Source
from ..weights import fill, read_weights

__all__ = ["build"]


def build(request: Request) -> Source:
    """Return what ``package.module:Class`` makes, called with the arguments asked for."""
    module, _, name = request.name.partition(":")
    found = _attribute(_imported(module, request), name, request)
    if isinstance(found, nn.Module) and request.init:
        raise NetworkError(f"{request.text}: --init: it is a network already, there is nothing to call")
    if request.random:
        raise NetworkError(f"{request.text}: --random: a network of your own has the weights that it gives itself")
    found = _copied(found if isinstance(found, nn.Module) else _called(found, request))
    if not callable(found):
        raise NetworkError(f"{request.text}: expected a network, got {type(found).__name__}")
    if isinstance(found, nn.Module):
        found = found.float()
    if request.weights:
        if not isinstance(found, nn.Module):
            raise NetworkError(f"{request.text}: --weights: it has none, being no torch.nn.Module")
        fill(found, read_weights(request.weights), request.text, f"--weights {request.weights}")
    return Source(found)


def _copied(network: Any) -> Any:
    """Return a copy, which gets weights and hooks of its own: a function may return the same network every time."""
    if not isinstance(network, nn.Module):
        return network
    try:
        return copy.deepcopy(network)
    except Exception:  # what it holds cannot be copied
        return network


@contextmanager
def _working_directory_first() -> Iterator[None]:
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        yield
    finally:
        sys.path.remove(here)


def _imported(module: str, request: Request) -> Any:
    try:
        with _working_directory_first():
            return importlib.import_module(module)
    except Exception as error:  # code of the user's
        raise NetworkError(f"{request.text}: {module} cannot be imported ({reason(error)})") from None


def _attribute(module: Any, name: str, request: Request) -> Any:
    found = module
    for part in name.split("."):
        if not hasattr(found, part):
            names = [each for each in vars(found) if not each.startswith("_")]
            raise NetworkError(f"{request.text}: {request.name.partition(':')[0]} has no {part}{nearest(part, names)}")
        found = getattr(found, part)
    return found


def _called(maker: Any, request: Request) -> Any:
    if not callable(maker):
        raise NetworkError(f"{request.text}: expected a class or a function, got {type(maker).__name__}")
    try:
        with _working_directory_first():
            return maker(**request.arguments)
    except Exception as error:  # code of the user's
        given = ", ".join(f"{name}={value!r}" for name, value in request.arguments.items())
        raise NetworkError(
            f"{request.text}: fails when called with {given or 'no arguments'} ({reason(error)}); "
            "arguments are given by --init NAME=VALUE"
        ) from None
