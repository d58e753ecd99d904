"""Vision models of transformers. Needs the extra ``[networks]``."""

from __future__ import annotations

import warnings
from typing import Any, cast

import torch
from torch import Tensor, nn

from ...extras import require
from ..errors import NetworkError, nearest, reason
from ..loaded import Request, Source
from ..preprocessing import colour_map, return_part
from ..weights import misfit, part_for, read_weights

__all__ = ["build"]

#: What a model returns: the first of these that its output has.
OUTPUTS = ("logits", "image_embeds", "last_hidden_state")
#: Never fetched, and no code of a repository's run.
LOCAL = {"local_files_only": True, "trust_remote_code": False}


def build(request: Request) -> Source:
    """Return a model of a directory or of the cache; with ``--random``, a type of model such as ``vit`` will do."""
    library: Any = require("transformers", "networks", request.text)
    library.logging.set_verbosity_error()
    library.logging.disable_progress_bar()
    config = _config(library, request)
    network = _made(library, request, config, _kind(library, request, config)).float()
    if network.main_input_name != "pixel_values":
        raise NetworkError(f"{request.text}: takes {network.main_input_name}, expected a network that takes images")
    processor = _processor(library, request, config)
    side = _stated(config) or (None if processor is None else _measured(processor, 0).shape[-1]) or 224
    colours = None if processor is None else colour_map(*_colours(processor))
    return_part(network, OUTPUTS)
    shape = int(getattr(config, "num_channels", 3)), side, side
    return Source(network, shape, _class_names(config), colours=colours)


def _config(library: Any, request: Request) -> Any:
    types = library.models.auto.configuration_auto.CONFIG_MAPPING_NAMES
    if request.name in types and (request.random or request.weights):
        try:
            _check_entries(library.AutoConfig.for_model(request.name), request)
            return library.AutoConfig.for_model(request.name, **request.arguments)
        except NetworkError:
            raise
        except Exception as error:
            raise NetworkError(f"{request.text}: cannot be built as asked for ({reason(error)})") from None
    try:
        _check_entries(library.AutoConfig.from_pretrained(request.name, **LOCAL), request)
        return library.AutoConfig.from_pretrained(request.name, **LOCAL, **request.arguments)
    except NetworkError:
        raise
    except Exception as error:
        if not isinstance(error, OSError):
            raise NetworkError(f"{request.text}: cannot be loaded ({reason(error)})") from None
        raise NetworkError(_missing(request, [*_cached_names(), *types])) from None


def _check_entries(config: Any, request: Request) -> None:
    """Refuse entries that the configuration does not have, which the library would pass over."""
    for name in request.arguments:
        if not hasattr(config, name):
            raise NetworkError(f"--init {name}: {type(config).__name__} has no such entry{nearest(name, dir(config))}")


def _missing(request: Request, names: list[str]) -> str:
    if request.name in names and "/" not in request.name:
        return f"{request.text}: is a type of model, without weights; give --random or --weights FILE"
    return (
        f"{request.text}: neither a directory nor in the cache{nearest(request.name, names)}; get it by "
        f"hf download {request.name}, or give --random and a type of model, such as transformers:vit"
    )


def _cached_names() -> list[str]:
    hub: Any = require("huggingface_hub", "networks", "transformers")
    try:
        return [each.repo_id for each in hub.scan_cache_dir().repos if each.repo_type == "model"]
    except hub.errors.CacheNotFound:
        return []


def _kind(library: Any, request: Request, config: Any) -> Any:
    """Return the class of the model; of one of images and text, the part that takes images."""
    named = (getattr(config, "architectures", None) or [""])[0]
    stem = named.removesuffix("Model")
    for name in (f"{stem}VisionModelWithProjection", f"{stem}VisionModel", named):
        if named and hasattr(library, name):
            return getattr(library, name)
    for kind in (library.AutoModelForImageClassification, library.AutoModel):
        if type(config) in kind._model_mapping:
            return kind._model_mapping[type(config)]
    raise NetworkError(f"{request.text}: transformers has no model for {type(config).__name__}")


def _made(library: Any, request: Request, config: Any, kind: Any) -> nn.Module:
    try:
        if request.random:
            return cast(nn.Module, kind(config))
        if request.weights:
            with torch.device("meta"):
                names = kind(config).state_dict()
            weights = part_for(names, read_weights(request.weights), f"--weights {request.weights}")
            network, info = kind.from_pretrained(None, config=config, state_dict=weights, output_loading_info=True)
        else:
            network, info = kind.from_pretrained(request.name, config=config, output_loading_info=True, **LOCAL)
    except NetworkError:
        raise
    except OSError:
        raise NetworkError(_missing(request, _cached_names())) from None
    except Exception as error:
        raise NetworkError(f"{request.text}: its weights cannot be loaded ({reason(error)})") from None
    shapes = [str(each[0]) for each in info.get("mismatched_keys", ())]
    if wrong := misfit(sorted(info["missing_keys"]), [], shapes):
        raise NetworkError(f"{request.weights or request.text}: its weights do not fit {kind.__name__}: {wrong}")
    return cast(nn.Module, network)


def _processor(library: Any, request: Request, config: Any) -> Any:
    try:
        return library.AutoImageProcessor.from_pretrained(request.name, **LOCAL)
    except Exception:  # there is none, or it needs what is not installed
        if not request.random and not request.normalisation:
            warnings.warn(
                f"{request.text}: no preprocessing is stated; pixels are given as they are, without --mean and --std",
                stacklevel=3,
            )
        return None


@torch.no_grad()
def _measured(processor: Any, level: int, channel: int | None = None) -> Tensor:
    """Return what the processor makes of an image of one colour, shape ``(C, H, W)``."""
    image = torch.zeros(3, 64, 64, dtype=torch.uint8)
    image[slice(None) if channel is None else channel] = level
    found: Tensor = processor(image.permute(1, 2, 0).numpy(), return_tensors="pt")["pixel_values"]
    return found.flatten(0, -4)[0].double()


def _colours(processor: Any) -> tuple[Tensor, Tensor]:
    """Return the affine map of colours that a processor is, measured: whatever it does to them, in whatever order."""
    centres = [each[:, each.shape[1] // 2, each.shape[2] // 2] for each in _basis(processor)]
    return torch.stack([each - centres[0] for each in centres[1:]], 1), centres[0]


def _basis(processor: Any) -> list[Tensor]:
    return [_measured(processor, 0), *(_measured(processor, 255, channel) for channel in range(3))]


def _stated(config: Any) -> int | None:
    size = getattr(config, "image_size", None)
    return int(size[0] if isinstance(size, list | tuple) else size) if size else None


def _class_names(config: Any) -> tuple[str, ...] | None:
    names = getattr(config, "id2label", None) or {}
    found = tuple(str(names[index]) for index in sorted(names))
    return None if not found or found[0] == "LABEL_0" else found
