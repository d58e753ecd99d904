"""The layers of a network, and the pre-image of a picture at one of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..core.inversion import Inversion, invert
from ..core.select import select
from ..core.structures import hookable
from ..networks import LoadedNetwork

__all__ = ["OUTPUT", "Layer", "layers_of", "pre_image"]

#: Name of a network's own output.
OUTPUT = ""
#: Relative residual at which a pre-image is good enough to be looked at.
TOLERANCE = 1e-2


@dataclass(frozen=True)
class Layer:
    """A module that the network calls.

    Attributes:
        name: as in :meth:`torch.nn.Module.named_modules`, empty for the network itself.
        kind: the name of its class.
        shape: of its output for one image; none if that is not one tensor.
    """

    name: str
    kind: str
    shape: tuple[int, ...] | None

    @property
    def title(self) -> str:
        """The layer as the page lists it."""
        shape = "several outputs" if self.shape is None else " x ".join(map(str, self.shape))
        kind = () if self.kind.startswith("_") else (self.kind,)
        return " · ".join((self.name or "output", *kind, shape))


def layers_of(network: LoadedNetwork) -> list[Layer]:
    """Return the layers in the order in which they are evaluated, each once; the network's output is the last.

    Example:
        >>> inside = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(16, 2))
        >>> [layer.title for layer in layers_of(LoadedNetwork("mine", inside, (1, 4, 4)))]
        ['0 · Conv2d · 4 x 2 x 2', '1 · Flatten · 16', '2 · Linear · 2', 'output · Sequential · 2']
    """
    module = network.module
    found: dict[str, Layer] = {}

    def hook(name: str) -> Callable[..., None]:
        def keep(inside: nn.Module, _: Any, output: Any) -> None:
            shape = tuple(output.shape[1:]) if isinstance(output, Tensor) else None
            found.setdefault(name, Layer(name, type(inside).__name__, shape))

        return keep

    handles = [each.register_forward_hook(hook(name)) for name, each in _inside(module)]
    try:
        with torch.no_grad():
            output = module(_grey(network))
    finally:
        for handle in handles:
            handle.remove()
    shape = tuple(output.shape[1:]) if isinstance(output, Tensor) else None
    kind = type(module).__name__ if isinstance(module, nn.Module) else getattr(module, "__name__", "function")
    return [*found.values(), Layer(OUTPUT, kind, shape)]


def _inside(module: Any) -> list[tuple[str, nn.Module]]:
    return [(name, each) for name, each in hookable(module) if name] if isinstance(module, nn.Module) else []


def _grey(network: LoadedNetwork) -> Tensor:
    """Return a grey image, from which pre-images are sought, on the network's device."""
    module = network.module
    known = next(iter(module.parameters()), None) if isinstance(module, nn.Module) else None
    return torch.full((1, *network.image_shape), 0.5, device=None if known is None else known.device)


def pre_image(
    network: LoadedNetwork, layer: str, image: Tensor, budget: int, tell: Callable[[int], None] = lambda _: None
) -> Inversion:
    """Find the picture, in natural variables and from grey, that has the layer's output for an image.

    Args:
        network: whose layer it is.
        layer: its name, empty for the output.
        image: in [0, 1], shape ``(1, C, H, W)``.
        budget: the most evaluations.
        tell: called with the number of evaluations so far.
    """
    start = _grey(network)
    part = select(network.module, layer) if layer else network.module
    with torch.no_grad():
        target = part(image.to(start))
    done = 0

    def counted(*_: Any) -> None:
        nonlocal done
        done += 1
        tell(done)

    handle = network.module.register_forward_pre_hook(counted) if isinstance(network.module, nn.Module) else None
    try:
        return invert(part, target, start, TOLERANCE, budget, variables="natural")
    finally:
        if handle is not None:
            handle.remove()
