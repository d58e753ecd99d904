"""The encoder of a trained model of ours."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import cast

from torch import Tensor, nn

from ...models import FA, Model
from ...models.runs import model_of_run
from ..errors import NetworkError
from ..loaded import Request, Source

__all__ = ["build", "encoder_of"]


class _Scored(nn.Module):
    """An encoder with two heads: the latent, and the class scores."""

    def __init__(self, encoder: nn.Module, mean: nn.Module, scores: nn.Module) -> None:
        super().__init__()
        self.encoder, self.mean, self.scores = encoder, mean, scores

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.encoder(x)
        return self.mean(hidden), self.scores(hidden)


def build(request: Request) -> Source:
    """Return a run's encoder: from images to latents, and class scores where it has them."""
    if request.weights or request.random or request.init or request.normalisation:
        raise NetworkError(
            f"{request.text}: --weights, --random, --init, --mean and --std are not for a run, which has its own"
        )
    try:
        model = model_of_run(Path(request.name))
    except (FileNotFoundError, ValueError) as error:
        raise NetworkError(str(error)) from None
    module = encoder_of(model.float(), request.text)
    class_names = model.class_names if isinstance(module, _Scored) else None
    return Source(module, cast(tuple[int, int, int], model.image_shape), class_names, model.white)


def encoder_of(model: Model, name: str) -> nn.Module:
    """Return a model's encoder, from images to latents, and class scores where it has them; the weights are shared.

    Of a conditional VAE, whose latents depend on the class too, it is what comes before the class; of one with class
    priors the latents are those before they are given in the units of a prior.

    Raises:
        NetworkError: the model has none.
    """
    network, encoder, mean = (getattr(model, each, None) for each in ("network", "encoder", "mean"))
    if network is not None:
        return cast(nn.Module, network)
    if encoder is None or mean is None:
        raise NetworkError(f"{name}: a {type(model).__name__} has no encoder to look into")
    scores = getattr(model, "scores", None) if isinstance(model, FA) else None
    if scores is not None:
        return _Scored(encoder, mean, scores)
    # The heads of an encoder that is given the class know the class from a layer before them, which images have not.
    heads = {} if getattr(model, "given_class", None) is not None else {"mean": mean}
    return nn.Sequential(OrderedDict(encoder=encoder, **heads))
