"""The parts of a model that stand alone: encoder, decoder and refiner, as functions of tensors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from ..models.model import Model

__all__ = ["Part", "parts_of"]


@dataclass(frozen=True, eq=False)
class Part:
    """A part of a model.

    Attributes:
        name: ``encoder``, ``decoder`` or ``refiner``; the name of its file.
        function: from its inputs to its output, all with the batch as their first dimension.
        inputs: their names.
        output: its name.
        example: maps a count to inputs of so many samples, such as the model would meet.
    """

    name: str
    function: Callable[..., Tensor]
    inputs: tuple[str, ...]
    output: str
    example: Callable[[int], tuple[Tensor, ...]]


def parts_of(model: Model) -> tuple[list[Part], dict[str, str]]:
    """Return the parts of a model, and why others are not among them.

    The encoder maps ``images``, floating point in [0, 1] of shape ``(N, C, H, W)``, to their ``latent``, shape
    ``(N, latent)``. The decoder maps a ``latent``, in a conditional model with ``labels``, int64 of shape ``(N,)``, to
    ``images`` after ``decode_steps``, by default the trained number of steps; the refiner such images to ``refined``
    ones, given the same labels. The encoder of a conditional VAE takes these too.

    Args:
        model: a trained model, on the CPU.

    Returns:
        The parts; and by the name of a part, the reason why the model's cannot be exported.

    Example:
        >>> from feature_alignment.models import AE
        >>> parts, missing = parts_of(AE((1, 8, 8), latent=4, channels=(4,), width=16))
        >>> [part.name for part in parts], missing
        (['encoder', 'decoder'], {})
    """
    units = torch.eye(max(model.classes, 1), dtype=model.dtype)

    def mixture(labels: tuple[Tensor, ...]) -> Tensor | None:
        # A gather, in which every runtime refuses a label out of range; but ONNX counts those below 0 from the end.
        return functional.embedding(labels[0].where(labels[0] >= 0, len(units)), units) if labels else None

    def draw(count: int) -> tuple[Tensor, ...]:
        # Not a batch of zeros: each label in turn.
        return (torch.arange(count) % model.classes,) if model.classes else ()

    def images(count: int) -> tuple[Tensor, ...]:
        return (torch.rand(count, *model.image_shape, dtype=model.dtype), *(draw(count) if model.encodes_class else ()))

    def latents(count: int) -> tuple[Tensor, ...]:
        return (model.prior(count, labels=draw(count)[0] if model.classes else None), *draw(count))

    def decoded(count: int) -> tuple[Tensor, ...]:
        latent, *labels = latents(count)
        return (model.decode(latent, labels[0] if labels else None), *labels)

    given = ("labels",) if model.classes else ()
    known = given if model.encodes_class else ()
    parts = [
        Part("encoder", lambda x, *y: model.encode(x, mixture(y)), ("images", *known), "latent", images),
        Part("decoder", lambda z, *y: model.decode(z, mixture(y)), ("latent", *given), "images", latents),
        Part("refiner", lambda r, *y: model.refine(r, mixture(y)), ("images", *given), "refined", decoded),
    ]
    missing = {}
    if not model.has_encoder:
        missing["encoder"] = f"{type(model).__name__} finds an image's latent by a search, which is not a network"
    if _is_random(parts[1]):
        missing["decoder"] = "it draws random numbers, so no file would decode as the model does; other starts do not"
    absent = {"refiner"} if model.refiner is None else set()
    return [part for part in parts if part.name not in missing and part.name not in absent], missing


def _is_random(part: Part) -> bool:
    inputs = part.example(2)
    return not torch.allclose(part.function(*inputs), part.function(*inputs))
