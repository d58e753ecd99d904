"""All measures of a model."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..core.draws import seeded
from ..data import Images
from ..progress import progress
from . import chunks
from .comparison import Comparison, LeftOut
from .inception import Inception
from .measures import MEASURES

if TYPE_CHECKING:
    from ..models import Model

__all__ = ["evaluate"]


def evaluate(
    model: Model,
    train: Images,
    test: Images,
    *,
    seed: int = 0,
    limit: int | None = None,
    inception: Inception | None = None,
) -> dict[str, Any]:
    """Measure a model on held-out images.

    Reconstructions are decoded from the latent that :meth:`~Model.encode` gives (a posterior's mean); a
    conditional model is given the label. As many samples are drawn by the model's sampler as there are held-out
    images, with their labels. Decoded images and, if the model has a refiner, refined images are measured
    separately. For comparison, ``reference`` has each measure of real images: the mean training image as a
    constant reconstruction, and training images as samples.

    Args:
        model: any model.
        train: training split, for the classifier and the reference.
        test: held-out images.
        seed: of the samples, and of starts of noise.
        limit: maximum number of held-out images, evenly spaced; none for all.
        inception: feature extractor of ``fid`` and ``kid``, which are left out without it.

    Returns:
        The content of ``metrics.json``: the measures in :data:`MEASURES`, each a dictionary with the keys
        :attr:`Model.stage`, ``refined`` and ``reference``; ``notes`` has caveats by measure, and the reasons for
        those left out.

    Raises:
        ValueError: a ``limit`` below 1, or no images.
    """
    for name, images in (("train", train), ("test", test)):
        if not len(images):
            raise ValueError(f"{name}: expected at least one image, got none")
    if limit is not None and limit < 1:
        raise ValueError(f"limit: expected at least 1, got {limit}")
    compared = _compared(model, train, _evenly(test, len(test) if limit is None else limit), seed, inception)
    found: dict[str, Any] = {
        "data": test.name,
        "split": test.split,
        "images": len(compared.held_out),
        "samples": len(compared.held_out),
        "seed": seed,
        "sampler": model.samplers.name_of(model.sampler()),
    }
    for name, measure in MEASURES.items():
        try:
            if values := measure.function(compared):
                found[name] = values
        except LeftOut as reason:
            compared.notes[name] = str(reason)
    return found | ({"notes": compared.notes} if compared.notes else {})


def _compared(model: Model, train: Images, held_out: Images, seed: int, inception: Inception | None) -> Comparison:
    """Return the model's reconstructions of the images and an equal number of samples, with their references."""
    real = _evenly(train, len(held_out))  # the same share of every class as in the held-out images
    images, labels = held_out.images(), held_out.labels if model.classes else None
    reconstructions, samples = _reconstruct_and_sample(model, images, labels, seed)
    reconstructions["reference"] = _mean_image(train).expand_as(images)
    samples["reference"] = real.images()
    return Comparison(train, held_out, real, labels, reconstructions, samples, inception)


def _evenly(images: Images, count: int) -> Images:
    """Return ``count`` images, or all, evenly spaced over the split, which may be ordered by class."""
    chosen = torch.linspace(0, len(images) - 1, min(count, len(images))).round().long()
    pixels, labels = images.chosen(chosen)
    return replace(images, pixels=pixels, labels=labels)


def _mean_image(images: Images) -> Tensor:
    # In chunks: a data set may be larger than the memory.
    total = torch.stack([chunk.float().sum(0) for chunk in images.pixels.split(chunks.CHUNK)]).sum(0)
    return total / (255 * len(images))


def _reconstruct_and_sample(
    model: Model, images: Tensor, labels: Tensor | None, seed: int
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the reconstructions and as many samples, by stage, on the CPU."""
    generator = torch.Generator().manual_seed(seed)
    reconstructions: list[dict[str, Tensor]] = []
    samples: list[dict[str, Tensor]] = []
    size = chunks.CHUNK
    with seeded(seed, model.device):  # of starts of noise
        for start in progress(range(0, len(images), size), "reconstructing and sampling"):
            chunk = images[start : start + size].to(model.device, model.dtype)
            given = asked = None if labels is None else labels[start : start + size]
            if model.classes and given is None:  # the held-out images have no labels, those trained on had
                given = model.assumed_labels(chunk)
                asked = torch.randint(model.classes, (len(chunk),), generator=generator)
            # Computed once for all measures: a reconstruction may be a long search.
            reconstructions.append(_stages(model, model.reconstruct(chunk, given), given))
            samples.append(_stages(model, model.sample(len(chunk), asked, generator=generator), asked))
    return _joined(reconstructions), _joined(samples)


def _stages(model: Model, images: Tensor, labels: Tensor | None) -> dict[str, Tensor]:
    """Return what the model decoded and, where it can, refines."""
    refined = {} if model.refiner is None else {"refined": model.refine(images, labels)}
    return {stage: each.cpu().float() for stage, each in ({model.stage: images} | refined).items()}


def _joined(parts: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {stage: torch.cat([part[stage] for part in parts]) for stage in parts[0]}
