"""Files of :mod:`torch.export`."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from ..errors import NetworkError, reason
from ..loaded import Request, Source

__all__ = ["build"]


def build(request: Request) -> Source:
    """Return an exported network, with the modules that it was exported from."""
    path = Path(request.name)
    if request.weights or request.random or request.init:
        raise NetworkError(f"{request.text}: --weights, --random and --init are not for a file that has its weights")
    if not path.is_file():
        raise NetworkError(f"{request.text}: no such file")
    try:
        # An exported program is one flat graph; unflattened it has modules, to be selected by name.
        module = torch.export.unflatten(torch.export.load(path))
    except Exception as error:  # damaged files raise anything
        raise NetworkError(f"{request.text}: not a file of torch.export.save ({reason(error)})") from None
    return Source(module, _shape(module, request.text))


def _shape(module: nn.Module, name: str) -> tuple[int, int, int] | None:
    """Return the shape of the images it was exported with; a size left open is the example's."""
    inputs = [node.meta.get("val") for node in module.graph.nodes if node.op == "placeholder"]  # type: ignore[union-attr]
    if len(inputs) != 1 or not isinstance(inputs[0], Tensor) or inputs[0].ndim != 4:
        shapes = ", ".join(str(tuple(each.shape)) if isinstance(each, Tensor) else str(each) for each in inputs)
        raise NetworkError(f"{name}: takes {shapes or 'nothing'}, expected one batch of images, (N, C, H, W)")
    sizes = inputs[0].shape[1:]
    if not all(isinstance(size, int) for size in sizes):
        return None
    channels, height, width = sizes
    return int(channels), int(height), int(width)
