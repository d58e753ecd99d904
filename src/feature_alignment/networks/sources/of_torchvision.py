"""Models of torchvision. Needs the extra ``[networks]``."""

from __future__ import annotations

import inspect
from typing import Any, cast

from torch import nn

from ...extras import require
from ..errors import NetworkError, nearest, reason
from ..loaded import Request, Source
from ..preprocessing import normalisation
from ..weights import fill, in_torch_cache, read_weights

__all__ = ["build"]

#: Parts of torchvision whose models take something else than a batch of images.
OTHERS = {"detection": "lists of images", "video": "videos", "optical_flow": "pairs of images", "quantization": "int8"}
#: Models whose own initialisation takes minutes and is left out.
SLOW = ("googlenet", "inception_v3")


def build(request: Request) -> Source:
    """Return a model with the default weights, if they are in the cache."""
    models: Any = require("torchvision.models", "networks", request.text)
    names = models.list_models()
    if request.name not in names:
        raise NetworkError(f"{request.text}: torchvision has no such model{nearest(request.name, names)}")
    part = models.get_model_builder(request.name).__module__.split(".")[2]
    if part in OTHERS:
        raise NetworkError(f"{request.text}: takes {OTHERS[part]}, expected a network that takes a batch of images")
    known = models.get_model_weights(request.name).DEFAULT
    preset = known.transforms()
    side = int(getattr(preset, "crop_size", preset.resize_size)[0])
    network = _filled(models, request, known)
    names = known.meta.get("categories")
    plain = names is not None and "num_classes" not in request.init
    colours = normalisation(preset.mean, preset.std)
    return Source(network, (3, side, side), tuple(names) if plain else None, colours=colours)


def _filled(models: Any, request: Request, known: Any) -> nn.Module:
    if request.random:
        return _made(models, request, None, **_own_size(request))
    if request.weights:
        network = _made(models, request, None)
        fill(network, read_weights(request.weights), request.text, f"--weights {request.weights}")
        return network
    if in_torch_cache(known.url) is None:
        raise NetworkError(
            f'{request.text}: its weights are not in the cache; get them by python -c "import torchvision; '
            f"torchvision.models.get_model('{request.name}', weights='DEFAULT')\" (from {known.url}), or give "
            "--weights FILE or --random"
        )
    return _made(models, request, known)


def _made(models: Any, request: Request, weights: Any, **options: Any) -> nn.Module:
    known = inspect.signature(models.get_model_builder(request.name)).parameters
    if weights is None and "weights_backbone" in known:
        options["weights_backbone"] = None
    if request.name in SLOW:
        options["init_weights"] = False
    try:
        return cast(nn.Module, models.get_model(request.name, weights=weights, **options | request.arguments))
    except Exception as error:
        raise NetworkError(f"{request.text}: cannot be built as asked for ({reason(error)})") from None


def _own_size(request: Request) -> dict[str, int]:
    """Return what a vision transformer, which has a fixed size, needs for another one."""
    return {"image_size": request.size} if request.size and request.name.startswith("vit_") else {}
