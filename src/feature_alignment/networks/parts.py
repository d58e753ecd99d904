"""Parts of a loaded network: a layer, the scores of its classes; and the variables to search in."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from ..core.inversion import Generative, Variables
from ..core.pullback import evaluation
from ..core.select import select
from ..core.structures import Network, Structure
from ..files import user_path
from ..models import FA, GAN, Model
from ..models.ae import with_class
from ..models.runs import model_of_run
from .errors import NetworkError, nearest
from .images import load_images
from .loaded import LoadedNetwork

__all__ = ["class_scores", "first_tensor", "layer_of", "outputs_of", "variables_of"]


def layer_of(loaded: LoadedNetwork, layer: str) -> Network:
    """Return a network whose output is that of a layer; without a name the network itself.

    Raises:
        NetworkError: there is no such layer; the nearest are named.
    """
    if not layer:
        return cast(Network, loaded.module)
    if not isinstance(loaded.module, nn.Module):
        raise NetworkError(f"--layer {layer}: {loaded.name} is a function, without layers by name")
    try:
        return select(loaded.module, layer)
    except ValueError as error:
        raise NetworkError(f"--layer {layer}: {str(error).removeprefix('names: ')}") from None


@torch.no_grad()
def outputs_of(network: Network, images: Tensor) -> Structure:
    """Return the outputs for a batch, of an exported network of a fixed batch too."""
    return evaluation(network)(images)


def first_tensor(loaded: LoadedNetwork, network: Network) -> Network:
    """Return a network of which the first floating-point tensor is put out, where the given one has several."""
    return _one_tensor(network, outputs_of(network, _example(loaded)), 0)


def _one_tensor(network: Network, output: Structure, place: int) -> Network:
    """Return a network that puts out one of the floating-point tensors of an output; itself, if that is a tensor."""
    if isinstance(output, Tensor):
        return network
    inner = evaluation(network)
    return lambda x: _floating(inner(x))[place]


def _floating(output: Structure) -> list[Tensor]:
    leaves = pytree.tree_leaves(output)
    return [leaf for leaf in leaves if isinstance(leaf, Tensor) and leaf.is_floating_point()]


def _example(loaded: LoadedNetwork) -> Tensor:
    return torch.full((1, *loaded.image_shape), 0.5, device=device_of(loaded))


def class_scores(loaded: LoadedNetwork) -> Network:
    """Return the network of which the class scores, shape ``(N, classes)``, are put out.

    Raises:
        NetworkError: its output has no classes.
    """
    output = outputs_of(loaded.module, _example(loaded))
    parts = _floating(output)
    count = loaded.class_names and len(loaded.class_names)
    fitting = [place for place, part in enumerate(parts) if part.ndim == 2 and count in (None, part.shape[1])]
    if not fitting or (count is None and len(fitting) > 1):
        what = "several outputs that may be scores of classes" if fitting else "no scores of classes"
        raise NetworkError(f"--class: {loaded.name} has {what}; --layer and --unit name one of its units")
    return _one_tensor(loaded.module, output, fitting[0])


def device_of(loaded: LoadedNetwork) -> torch.device:
    """Return the device of a network's weights; the CPU, if it has none."""
    weight = next(loaded.module.parameters(), None) if isinstance(loaded.module, nn.Module) else None
    return torch.device("cpu") if weight is None else weight.device


def variables_of(name: str, loaded: LoadedNetwork) -> str | Variables:
    """Return the variables to search in, by name.

    Args:
        name: an entry of :data:`~feature_alignment.core.inversion.VARIABLES`; or a folder of images, to which they are
            fitted; or the directory of a run, whose decoder draws the images.
        loaded: the network, for the shape of its images.

    Raises:
        NetworkError: no such name; images of another shape.
    """
    from ..core.inversion import VARIABLES

    path = user_path(name)
    if name in VARIABLES:
        return name
    if not path.is_dir():
        raise NetworkError(
            f"--variables {name}: expected {', '.join(VARIABLES)}, a folder of images or a run"
            f"{nearest(name, VARIABLES)}"
        )
    if (path / "config.json").is_file():
        return _decoding(path, loaded)
    return Variables.fit(load_images([path], loaded).to(device_of(loaded)), squash=True)


def _decoding(path: Path, loaded: LoadedNetwork) -> Variables:
    try:
        model = model_of_run(path).float().requires_grad_(False).to(device_of(loaded))
    except (FileNotFoundError, ValueError) as error:
        raise NetworkError(f"--variables {error}") from None
    if model.image_shape != loaded.image_shape:
        raise NetworkError(
            f"--variables {path}: decodes images of {model.image_shape}, the network takes {loaded.image_shape}"
        )
    decode = _differentiable(model)
    if decode is None:
        raise NetworkError(
            f"--variables {path}: a {type(model).__name__} cannot be searched in; FA, VFA, AE, VAE, GAN and GON can"
        )
    latent, classes = (torch.zeros(1, size, device=device_of(loaded)) for size in (model.latent, model.classes))
    if not model.classes:
        return Generative(decode, latent)
    # A mixture of the classes is sought with the latent, from all in equal parts.
    start = torch.cat([latent, torch.full_like(classes, 1 / model.classes)], 1)
    return Generative(lambda u: decode(u[:, : model.latent], u[:, model.latent :]), start)


def _differentiable(model: Model) -> Callable[..., Tensor] | None:
    """Return a model's decoding as a function of the latent and, if it is conditional, the class; none without one."""
    if isinstance(model, FA):
        return partial(model.feature, steps=model.options.decode_steps)
    if isinstance(model, GAN):
        return model.generate
    decoder: nn.Module | None = getattr(model, "decoder", None)
    return decoder and (lambda latent, one_hot=None: decoder(with_class(latent, one_hot)))
