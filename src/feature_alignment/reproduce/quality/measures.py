"""The measures of a comparison, and the criteria of its search."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ...data import Images
from ...extras import require
from ...metrics import Classifier, class_agreement, classifier_fid, classifier_for, reconstruction_error
from ...metrics.chunks import CHUNK, in_chunks
from ...models import FA, Model
from ...models.losses import kl_divergence, squared_error
from ...samplers import Normal
from .samples import decoded, fitted, reconstructed, samplers_of
from .settings import Criterion, Method
from .splits import Split, evenly

__all__ = ["criterion", "measure", "principal_components", "reference"]

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
        return reconstruction_error(images, reconstructed(model, images, labels)[model.stage])
    if kind == "elbo":
        torch.manual_seed(seed)
        return float(
            in_chunks(lambda *each: _bound(model, *each), images, *([] if labels is None else [labels])).mean()
        )
    drawn = decoded(model, Normal(model.latent), split.held_out, seed)
    return _distance(classifier_for(split.train), images, list(drawn.values())[-1])


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
        chosen = evenly(split.held_out, method.reconstructed)
        images = chosen.images()
        stages = reconstructed(model, images, chosen.labels if model.classes else None)
        found["reconstruction_error"] = {name: reconstruction_error(images, each) for name, each in stages.items()}
    for name in samplers_of(method, split.train):
        if name not in found.get("classifier_fid", {}):
            drawn = decoded(model, fitted(name, model, split.train, seed), split.held_out, seed)
            for title, values in _of_samples(drawn, classifier_for(split.train), split.held_out, model).items():
                found.setdefault(title, {})[name] = values
    if isinstance(model, FA) and model.layered_start and model.options.steps and "error_by_steps" not in found:
        found["error_by_steps"] = _by_steps(model, split.held_out)
    return found


def reference(split: Split) -> dict[str, float]:
    """Return the measures of real images: the mean training image as a reconstruction, training images as samples."""
    images, classifier = split.held_out.images(), classifier_for(split.train)
    mean = torch.stack([each.double().sum(0) for each in split.train.pixels.split(CHUNK)]).sum(0) / len(split.train)
    real = evenly(split.train, len(images)).images()
    found = {
        "reconstruction_error": reconstruction_error(images, (mean.float() / 255).expand_as(images)),
        "classifier_fid": classifier_fid(classifier, images, real),
    }
    labels = split.held_out.labels
    return found if labels is None else found | {"class_agreement": class_agreement(classifier, images, labels)}


def principal_components(split: Split, sizes: Sequence[int]) -> dict[int, float]:
    r"""Return the error of the best linear map, by number of latents: what a network has to be better than.

    An image is reconstructed as :math:`m + V V^\top (x - m)`, clamped to [0, 1], with the mean :math:`m` and the first
    principal components :math:`V` of the training images; sizes of which there are not as many are left out.
    """
    train, images = split.train.images().flatten(1), split.held_out.images()
    known = [size for size in sizes if size < min(train.shape)]
    if not known:
        return {}
    # Exact, for many pixels and few images as for few pixels and many images; its first vector is drawn.
    sklearn = require("sklearn.decomposition", "samplers", "the principal components")
    fitted = sklearn.PCA(max(known), svd_solver="arpack", random_state=0).fit(train.numpy())
    mean, components = torch.tensor(fitted.mean_), torch.tensor(fitted.components_.copy())
    found = {}
    for size in known:
        latents = (images.flatten(1) - mean) @ components[:size].T
        found[size] = reconstruction_error(images, (mean + latents @ components[:size]).clamp(0, 1).view_as(images))
    return found


# ---------------------------------------------------------------------------------------------------------------------


@torch.no_grad()
def _bound(model: Model, images: Tensor, labels: Tensor | None = None) -> Tensor:
    """Return reconstruction error plus beta times the KL divergence of each image, for a draw from its posterior."""
    known: Any = model
    images = images.to(model.device)
    posterior = known.posterior(images, labels)
    error = squared_error(images, model.decode(posterior.draw(), labels))
    found: Tensor = error + known.options.beta * kl_divergence(posterior.mean, posterior.log_variance)
    return found.cpu()


def _by_steps(model: FA, held_out: Images) -> dict[str, float]:
    """Return the reconstruction error by the number of steps, whatever number the model was trained with."""
    chosen = evenly(held_out, CURVE_IMAGES)
    images = chosen.images()
    one_hot = model.one_hot(chosen.labels, len(images)) if model.classes else None
    latent = in_chunks(model.encode, images, *([] if one_hot is None else [one_hot]))
    found = {}
    with torch.no_grad():
        for steps in STEPS:
            features = in_chunks(
                lambda *each, steps=steps: model.feature(*each, steps=steps),
                *([latent] if one_hot is None else [latent, one_hot]),
            )
            found[str(steps)] = reconstruction_error(images, features.cpu())
    return found


def _of_samples(
    images: dict[str, Tensor], classifier: Classifier, held_out: Images, model: Model
) -> dict[str, dict[str, float]]:
    """Return classifier FID and, of a conditional model, the share of samples of the class asked for, by stage."""
    real = held_out.images()
    found = {"classifier_fid": {stage: _distance(classifier, real, each) for stage, each in images.items()}}
    if model.classes and held_out.labels is not None:
        found["class_agreement"] = {
            stage: class_agreement(classifier, each, held_out.labels) for stage, each in images.items()
        }
    return found


def _distance(classifier: Classifier, real: Tensor, images: Tensor) -> float:
    return classifier_fid(classifier, real, images) if images.isfinite().all() else math.nan
