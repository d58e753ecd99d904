"""Models of timm. Needs the extra ``[networks]``."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from torch import Tensor, nn

from ...extras import require
from ..errors import NetworkError, nearest, reason
from ..loaded import Request, Source
from ..preprocessing import normalisation
from ..weights import fill, in_torch_cache, part_for, read_weights

__all__ = ["build"]


def build(request: Request) -> Source:
    """Return a model with its pretrained weights, if they are in the cache."""
    timm: Any = require("timm", "networks", request.text)
    if not timm.is_model(request.name):
        names = [*timm.list_models(), *timm.list_models(pretrained=True)]
        raise NetworkError(f"{request.text}: timm has no such model{nearest(request.name, names)}")
    network = _own(timm, request) if request.weights else _made(timm, request, _weights(timm, request))
    config: dict[str, Any] = network.pretrained_cfg  # type: ignore[assignment]
    own, height, width = config["input_size"]
    channels = int(request.arguments.get("in_chans", own))
    mean, std = ([sum(each) / own] * channels if channels != own else each for each in (config["mean"], config["std"]))
    shape = channels, height, width
    return Source(network, shape, _class_names(timm, network), colours=normalisation(mean, std))


def _weights(timm: Any, request: Request) -> dict[str, Tensor] | None:
    if request.random:
        return None
    config = timm.get_pretrained_cfg(request.name)
    path = _cached(config)
    if path is None:
        name = request.name
        raise NetworkError(
            f'{request.text}: its weights are not in the cache; get them by python -c "import timm; '
            f"timm.create_model('{name}', pretrained=True)\", or give --weights FILE or --random"
        )
    return read_weights(path)


def _cached(config: Any) -> Path | None:
    repository, url = getattr(config, "hf_hub_id", None), getattr(config, "url", None)
    if repository:
        hub: Any = require("huggingface_hub", "networks", "timm")
        for file in (config.hf_hub_filename, "model.safetensors", "pytorch_model.bin"):
            found = hub.try_to_load_from_cache(repository, file) if file else None
            if isinstance(found, str):
                return Path(found)
    return in_torch_cache(url) if url and not url.endswith(".npz") else None


def _own(timm: Any, request: Request) -> nn.Module:
    """Return a model with the weights of a file, all of them."""
    assert request.weights is not None
    network = _made(timm, request, None)
    own, source = network.state_dict(), f"--weights {request.weights}"
    weights = part_for(own, read_weights(request.weights), source)
    if {name: each.shape for name, each in weights.items()} == {name: each.shape for name, each in own.items()}:
        fill(network, weights, request.text, source)
        return network
    # Of other origin or size. Where the number of classes were not the pretrained one, timm would leave out the
    # classifier and no longer ask whether the rest is there.
    return _made(timm, request, weights, num_classes=getattr(network, "num_classes", None), label_offset=0)


def _made(timm: Any, request: Request, weights: dict[str, Tensor] | None, **overlay: Any) -> nn.Module:
    options = request.arguments
    if request.size and getattr(timm.get_pretrained_cfg(request.name), "fixed_input_size", False):
        options = {"img_size": request.size} | options
    if weights is not None:
        # By timm's own way in, which converts weights of other origin and resizes embeddings of positions.
        options |= {
            "pretrained": True,
            "pretrained_cfg_overlay": {"state_dict": weights, "custom_load": False, **overlay},
        }
    try:
        return cast(nn.Module, timm.create_model(request.name, **options))
    except Exception as error:
        what = f"--weights {request.weights} do not fit" if request.weights else "cannot be built as asked for"
        raise NetworkError(f"{request.text}: {what} ({reason(error)})") from None


def _class_names(timm: Any, network: nn.Module) -> tuple[str, ...] | None:
    subset = timm.data.infer_imagenet_subset(network)
    if subset is None:
        return None
    info = timm.data.ImageNetInfo(subset)
    return tuple(info.index_to_description(index) for index in range(info.num_classes()))
