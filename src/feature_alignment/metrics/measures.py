"""The registry of measures.

To add one, write a function of a :class:`Comparison` and list it in :data:`MEASURES`; copy ``reconstruction_error``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .classifier import class_agreement, classifier_fid
from .comparison import Comparison, LeftOut
from .distances import frechet_distance, kernel_distance
from .reconstruction import SSIM_PADDING, psnr, reconstruction_error, ssim

__all__ = ["MEASURES", "Measure", "stages_of"]


@dataclass(frozen=True)
class Measure:
    """A measure of the quality of a model.

    Attributes:
        title: a few words, with the unit.
        better: ``lower`` or ``higher``.
        meaning: a short definition.
        reference: images measured under the stage ``reference``.
        function: maps a :class:`Comparison` to numbers by stage; an empty dictionary if the measure does not apply.
            It may raise :class:`LeftOut` with a reason.
    """

    title: str
    better: str
    meaning: str
    reference: str
    function: Callable[[Comparison], dict[str, float]]


def _ssim(found: Comparison) -> dict[str, float]:
    height, width = found.images.shape[2:]
    if min(height, width) <= SSIM_PADDING:
        raise LeftOut(f"left out: images of {height} x {width} pixels are too small for its window")
    return found.of_reconstructions(ssim)


def _fid(found: Comparison) -> dict[str, float]:
    if found.inception is None or len(found.images) < 2:
        return {}
    if len(found.images) <= found.inception.num_features:
        found.notes["fid"] = (
            f"biased: {len(found.images)} images give {found.inception.num_features} features a singular covariance; "
            "compare it only with values from as many images"
        )
    if not found.inception.official:
        found.notes["inception"] = "other weights than the published ones: not the FID and KID of the literature"
    _refuse_lost(found)
    real, made = found.inception_features
    return {stage: frechet_distance(real, features) for stage, features in made.items()}


def _kid(found: Comparison) -> dict[str, float]:
    if found.inception is None or len(found.images) < 2:
        return {}
    _refuse_lost(found)
    real, made = found.inception_features
    return {stage: kernel_distance(real, features) for stage, features in made.items()}


def _classifier_fid(found: Comparison) -> dict[str, float]:
    if min(len(found.images), len(found.real)) < 2:
        raise LeftOut("left out: a distribution needs two images or more")
    _refuse_lost(found)
    return found.of_samples(lambda real, made: classifier_fid(found.classifier, real, made))


def _class_agreement(found: Comparison) -> dict[str, float]:
    labels = found.labels
    if labels is None:
        return {}
    if found.train.labels is None:
        raise LeftOut("left out: the training images have no labels from which a classifier could learn the classes")
    classified = found.samples | {"reference": found.images}
    return {stage: class_agreement(found.classifier, each, labels) for stage, each in classified.items()}


def _refuse_lost(found: Comparison) -> None:
    """Leave a distance of samples out if some of them are not finite."""
    for stage, images in found.samples.items():
        lost = int((~images.flatten(1).isfinite().all(1)).sum())
        if lost:
            raise LeftOut(f"left out: {lost} of {len(images)} samples, {stage}, are not finite")


_MEAN_IMAGE = "the mean training image for every image"
_REAL_IMAGES = "real training images as samples"

#: Every measure that ``metrics.json`` may hold, in the order shown.
MEASURES: dict[str, Measure] = {
    "reconstruction_error": Measure(
        "reconstruction error",
        "lower",
        "mean over images of the squared distance to the reconstruction",
        _MEAN_IMAGE,
        lambda found: found.of_reconstructions(reconstruction_error),
    ),
    "psnr": Measure(
        "PSNR (dB)",
        "higher",
        "mean over images of a reconstruction's signal-to-noise ratio",
        _MEAN_IMAGE,
        lambda found: found.of_reconstructions(psnr),
    ),
    "ssim": Measure(
        "SSIM", "higher", "structural similarity of image and reconstruction, at most 1", _MEAN_IMAGE, _ssim
    ),
    "fid": Measure("FID of samples", "lower", "Fréchet distance in Inception-v3's features", _REAL_IMAGES, _fid),
    "kid": Measure("KID of samples", "lower", "squared kernel distance in Inception-v3's features", _REAL_IMAGES, _kid),
    "classifier_fid": Measure(
        "classifier FID of samples",
        "lower",
        "Fréchet distance in a small classifier's features",
        _REAL_IMAGES,
        _classifier_fid,
    ),
    "class_agreement": Measure(
        "samples named as the class asked for",
        "higher",
        "share of samples that a small classifier names as the class asked for",
        "the classifier on the held-out images",
        _class_agreement,
    ),
}


def stages_of(metrics: dict[str, Any]) -> list[str]:
    """Return the stages measured in ``metrics.json``, ``reference`` last.

    Example:
        >>> stages_of({"psnr": {"reference": 9.0, "decoded": 20.0}, "images": 500})
        ['decoded', 'reference']
    """
    found = dict.fromkeys(stage for name in MEASURES for stage in metrics.get(name, ()))
    return sorted(found, key=lambda stage: stage == "reference")
