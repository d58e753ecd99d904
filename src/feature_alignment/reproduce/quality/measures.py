"""The measures of a comparison, and the criteria of its search."""

from __future__ import annotations

import math
from typing import Any, cast

import torch
from torch import Tensor

from ...data import Images
from ...metrics import Classifier, class_agreement, classifier_fid, classifier_for, reconstruction_error
from ...metrics.chunks import CHUNK, in_chunks
from ...models import FA, Model
from ...models.losses import kl_divergence, squared_error
from ...samplers import SAMPLERS, Normal, Sampler
from .settings import Criterion, Method
from .splits import Split

__all__ = ["criterion", "measure", "reference"]

#: Most training images whose latents a sampler is fitted to.
FITTED = 10_000
#: Steps of the curve of the error against the number of steps, and the number of images it is measured on.
STEPS, CURVE_IMAGES = (0, 1, 2, 3, 4, 6, 8, 12, 16), 500


def criterion(kind: Criterion, model: Model, split: Split, seed: int) -> float:
    """Return what the search minimises, on the held-out images of the split.

    Args:
        kind: see :data:`feature_alignment.reproduce.quality.settings.CRITERIA`.
        model: trained.
        split: images trained on and images held out from training.
        seed: of draws from the posterior or the prior.
    """
    images, labels = split.held_out.images(), split.held_out.labels if model.classes else None
    if kind == "reconstruction_error":
        return reconstruction_error(images, _reconstructed(model, images, labels)[model.stage])
    if kind == "elbo":
        torch.manual_seed(seed)
        return float(
            in_chunks(lambda *each: _bound(model, *each), images, *([] if labels is None else [labels])).mean()
        )
    drawn = _decoded(model, Normal(model.latent), split.held_out, seed)
    return classifier_fid(classifier_for(split.train), images, list(drawn.values())[-1])


def measure(model: Model, method: Method, split: Split, seed: int, known: dict[str, Any]) -> dict[str, Any]:
    """Return the measures of a model on held-out images: those that are known, and those that are missing.

    Args:
        model: trained.
        method: its name, and what is measured of it.
        split: images trained on, and held-out images.
        seed: of the samples.
        known: measures taken before.

    Returns:
        ``reconstruction_error``, by stage, as in ``metrics.json``; ``classifier_fid`` and, of a conditional model,
        ``class_agreement``, by sampler and stage; ``error_by_steps`` of a feature, by the number of steps.
    """
    found = dict(known)
    if "reconstruction_error" not in found:
        held_out = split.held_out.images(method.reconstructed)
        labels = split.held_out.labels if model.classes else None
        labels = labels if labels is None else labels[: len(held_out)]
        stages = _reconstructed(model, held_out, labels)
        found["reconstruction_error"] = {name: reconstruction_error(held_out, each) for name, each in stages.items()}
    for name in method.samplers or SAMPLERS:
        if name not in found.get("classifier_fid", {}):
            images = _decoded(model, _fitted(name, model, split.train, seed), split.held_out, seed)
            for title, values in _of_samples(images, classifier_for(split.train), split.held_out, model).items():
                found.setdefault(title, {})[name] = values
    if isinstance(model, FA) and model.layered_start and model.options.steps and "error_by_steps" not in found:
        found["error_by_steps"] = _by_steps(model, split.held_out)
    return found


def reference(split: Split) -> dict[str, float]:
    """Return the measures of real images: the mean training image as a reconstruction, training images as samples."""
    images, classifier = split.held_out.images(), classifier_for(split.train)
    mean = torch.stack([each.double().sum(0) for each in split.train.pixels.split(CHUNK)]).sum(0) / len(split.train)
    chosen = torch.linspace(0, len(split.train) - 1, min(len(images), len(split.train))).round().long()
    real = split.train.pixels[chosen].float() / 255
    found = {
        "reconstruction_error": reconstruction_error(images, (mean.float() / 255).expand_as(images)),
        "classifier_fid": classifier_fid(classifier, images, real),
    }
    labels = split.held_out.labels
    return found if labels is None else found | {"class_agreement": class_agreement(classifier, images, labels)}


# --- reconstructions ------------------------------------------------------------------------------------------


def _reconstructed(model: Model, images: Tensor, labels: Tensor | None) -> dict[str, Tensor]:
    """Return reconstructions on the CPU by stage, given the labels."""
    parts = []
    for start in range(0, len(images), CHUNK):
        given = None if labels is None else labels[start : start + CHUNK]
        parts.append(_stages(model, model.reconstruct(images[start : start + CHUNK].to(model.device), given), given))
    return {stage: torch.cat([part[stage] for part in parts]) for stage in parts[0]}


def _stages(model: Model, images: Tensor, labels: Tensor | None) -> dict[str, Tensor]:
    refined = {} if model.refiner is None else {"refined": model.refine(images, labels).cpu()}
    return {model.stage: images.cpu(), **refined}


@torch.no_grad()
def _bound(model: Model, images: Tensor, labels: Tensor | None = None) -> Tensor:
    """Return reconstruction error plus beta times the KL divergence of each image, for a draw from its posterior."""
    known: Any = model
    images = images.to(model.device)
    posterior = known.posterior(images)
    error = squared_error(images, model.decode(posterior.draw(), labels))
    found: Tensor = error + known.options.beta * kl_divergence(posterior.mean, posterior.log_variance)
    return found.cpu()


def _by_steps(model: FA, held_out: Images) -> dict[str, float]:
    """Return the reconstruction error by the number of steps, whatever number the model was trained with."""
    images = held_out.images(CURVE_IMAGES)
    one_hot = model.one_hot(held_out.labels[: len(images)], len(images)) if model.classes else None  # type: ignore[index]
    latent = in_chunks(model.encode, images)
    found = {}
    with torch.no_grad():
        for steps in STEPS:
            features = in_chunks(
                lambda *each, steps=steps: model.feature(*each, steps=steps),
                *([latent] if one_hot is None else [latent, one_hot]),
            )
            found[str(steps)] = reconstruction_error(images, features.cpu())
    return found


# --- samples --------------------------------------------------------------------------------------------------


def _fitted(name: str, model: Model, train: Images, seed: int) -> Sampler:
    """Return a sampler fitted to latents of training images: of a variational model, draws from their posteriors."""
    sampler = SAMPLERS[name](model.latent)
    if sampler.learns:
        chosen = torch.linspace(0, len(train) - 1, min(FITTED, len(train))).round().long()
        torch.manual_seed(seed)
        with torch.no_grad():
            latents = in_chunks(lambda pixels: _latents(model, pixels), train.pixels[chosen])
        sampler.fit(latents.cpu(), None if train.labels is None or not model.classes else train.labels[chosen])
    return sampler


def _latents(model: Model, pixels: Tensor) -> Tensor:
    images = model.as_floats(pixels.to(model.device))
    posterior = getattr(model, "posterior", None)
    return model.encode(images) if posterior is None else cast(Tensor, posterior(images).draw())


def _decoded(model: Model, sampler: Sampler, held_out: Images, seed: int) -> dict[str, Tensor]:
    """Return as many samples as there are held-out images, with their labels, by stage, on the CPU."""
    generator, parts = torch.Generator().manual_seed(seed), []
    for start in range(0, len(held_out), CHUNK):
        count = min(CHUNK, len(held_out) - start)
        labels = held_out.labels[start : start + count] if model.classes and held_out.labels is not None else None
        latent = sampler.draw(count, labels, generator).to(model.device, model.dtype)
        parts.append(_stages(model, model.decode(latent, labels), labels))
    return {stage: torch.cat([part[stage] for part in parts]) for stage in parts[0]}


def _of_samples(
    images: dict[str, Tensor], classifier: Classifier, held_out: Images, model: Model
) -> dict[str, dict[str, float]]:
    """Return classifier FID and, of a conditional model, the share of samples of the class asked for, by stage."""
    real = held_out.images()
    finite = {stage: bool(each.isfinite().all()) for stage, each in images.items()}
    found = {
        "classifier_fid": {
            stage: classifier_fid(classifier, real, each) if finite[stage] else math.nan
            for stage, each in images.items()
        }
    }
    if model.classes and held_out.labels is not None:
        found["class_agreement"] = {
            stage: class_agreement(classifier, each, held_out.labels) for stage, each in images.items()
        }
    return found
