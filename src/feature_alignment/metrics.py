"""Measures of reconstructions and samples, and the small classifier that some of them look through."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance
from tqdm import tqdm

from .data import Images, cache_directory
from .losses import squared_error
from .models.base import Model

__all__ = ["Classifier", "class_agreement", "classifier_fid", "classifier_for", "evaluate", "reconstruction_error"]

#: Images per call of a network during evaluation: bounds the memory, changes no result.
CHUNK = 250


def reconstruction_error(images: Tensor, reconstructions: Tensor) -> float:
    r"""Mean over images of :math:`\lVert x - \hat x \rVert_2^2`, summed over channels and pixels.

    Args:
        images, reconstructions: in [0, 1], shape ``(N, C, H, W)``.
    """
    if images.shape != reconstructions.shape:
        raise ValueError(f"reconstructions: expected shape {tuple(images.shape)}, got {tuple(reconstructions.shape)}")
    return float(squared_error(images.double(), reconstructions.double()).mean())


class Classifier(nn.Module):
    """A small convolutional classifier whose penultimate features stand in for Inception's.

    Shape:
        images ``(N, C, H, W)`` in [0, 1] to class scores ``(N, classes)``; :meth:`features` ``(N, 64)``.
    """

    num_features = 64

    def __init__(self, channels: int, image_size: int, classes: int) -> None:
        super().__init__()
        side = -(-image_size // 4)
        self.body = nn.Sequential(
            nn.Conv2d(channels, 16, 3, 2, 1),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, 2, 1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Dropout(0.3),
            nn.Linear(32 * side * side, self.num_features),
            nn.ReLU(),
        )
        self.head = nn.Linear(self.num_features, classes)

    def features(self, images: Tensor) -> Tensor:
        """Return the penultimate features, shape ``(N, 64)``."""
        found: Tensor = self.body(images)
        return found

    def forward(self, images: Tensor) -> Tensor:
        """Return the class scores."""
        scores: Tensor = self.head(self.body(images))
        return scores

    @torch.no_grad()
    def classify(self, images: Tensor) -> Tensor:
        """Return the class of each image, int64, shape ``(N,)``."""
        return torch.cat([self(chunk).argmax(1) for chunk in images.split(CHUNK)])


def classifier_for(train: Images, *, steps: int = 1500, seed: int = 0) -> Classifier:
    """Return the classifier of a data set, trained on its training split the first time and cached.

    Without labels it learns to tell by how many quarter turns an image is rotated, which needs none.

    Args:
        train: the training split.
        steps: Adam steps at 1e-3 of 64 images, each batch shifted at random by up to two pixels.
        seed: of everything random about it.
    """
    classes = len(train.classes) if train.labels is not None else 4
    key = hashlib.sha256(f"{train.shape} {classes} {len(train)} {steps} {seed}".encode())
    key.update(train.pixels[:: max(1, len(train) // 512)].numpy().tobytes())
    place = cache_directory() / f"classifier-{Path(train.name).name}-{key.hexdigest()[:16]}.safetensors"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        classifier = Classifier(train.shape[0], train.shape[1], classes)
        if place.is_file():
            classifier.load_state_dict(load_file(place))
            return classifier.eval()
        optimizer = torch.optim.Adam(classifier.parameters(), lr=1e-3)
        for _ in tqdm(range(steps), desc="training the classifier that judges", delay=1):
            images, labels = train.__getitems__(torch.randint(len(train), (64,)).tolist())
            if labels is None:
                labels = torch.randint(4, (64,))
                turned = [each.rot90(int(turns), (1, 2)) for each, turns in zip(images, labels, strict=True)]
                images = torch.stack(turned)
            shift = torch.randint(-2, 3, (2,)).tolist()
            scores = classifier((images.float() / 255).roll(shift, (2, 3)))
            loss = nn.functional.cross_entropy(scores, labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    place.parent.mkdir(parents=True, exist_ok=True)
    descriptor, scratch = tempfile.mkstemp(dir=place.parent, suffix=".part")
    os.close(descriptor)
    save_file(classifier.state_dict(), scratch)
    Path(scratch).replace(place)  # whole or not at all
    return classifier.eval()


class _Features(nn.Module):
    """The classifier as the feature extractor that torchmetrics expects."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.classifier = classifier
        self.num_features = classifier.num_features

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier.features(images)


@torch.no_grad()
def classifier_fid(classifier: Classifier, real: Tensor, generated: Tensor) -> float:
    r"""Fréchet distance (equation 8) between two sets of images in the features of ``classifier``.

    .. math::
        \lVert \mu_1 - \mu_2 \rVert^2 + \operatorname{tr}\bigl(\Sigma_1 + \Sigma_2 - 2 (\Sigma_1 \Sigma_2)^{1/2}\bigr)

    Not comparable with the FID of Inception's features, and never called that.

    Args:
        classifier: in eval mode.
        real, generated: in [0, 1], shape ``(N, C, H, W)``, two images or more each.
    """
    distance = FrechetInceptionDistance(_Features(classifier), normalize=True, sync_on_compute=False)
    for images, are_real in ((real, True), (generated, False)):
        for chunk in images.split(CHUNK):
            distance.update(chunk, real=are_real)
    return float(distance.compute())


def class_agreement(classifier: Classifier, images: Tensor, labels: Tensor) -> float:
    """Return the share of ``images`` that ``classifier`` names as ``labels``, in [0, 1]."""
    return float((classifier.classify(images) == labels).double().mean())


def evaluate(model: Model, train: Images, test: Images, *, seed: int = 0, limit: int | None = None) -> dict[str, Any]:
    """Measure a model on held-out images.

    Reconstructions are decoded from the latent :meth:`~Model.encode` gives (a posterior's mean), a
    conditional model being told the label. As many samples are drawn from the prior as there are held-out
    images, with their labels. Features and, where the model has a refiner, refined images are measured
    apart; ``reference`` holds what each measure says of real images, for comparison: the mean of the
    training images as a constant reconstruction, and real training images as samples.

    Args:
        model: any model.
        train: trains the classifier, and is the reference.
        test: held-out images.
        seed: of the samples.
        limit: use only so many held-out images, evenly spread.

    Returns:
        What ``metrics.json`` holds; ``reconstruction_error``, ``classifier_fid`` and, for a conditional
        model, ``class_agreement``, each with the keys ``feature``, ``refined`` and ``reference``.
    """
    classifier = classifier_for(train)
    count = len(test) if limit is None else min(limit, len(test))
    # Spread over the split, which may be ordered by class.
    pixels, real_labels = test.__getitems__(torch.linspace(0, len(test) - 1, count).round().long().tolist())
    real = pixels.float() / 255
    labels = real_labels if model.classes else None
    generator = torch.Generator().manual_seed(seed)

    stages: dict[str, tuple[list[Tensor], list[Tensor]]] = {"feature": ([], [])}
    if model.refiner is not None:
        stages["refined"] = ([], [])
    for start in tqdm(range(0, count, CHUNK), desc="reconstructing and sampling", delay=1):
        images = real[start : start + CHUNK].to(model.device)
        asked = None if labels is None else labels[start : start + CHUNK]
        features = model.reconstruct(images, asked)
        samples = model.sample(len(images), asked, generator=generator)
        stages["feature"][0].append(features.cpu())
        stages["feature"][1].append(samples.cpu())
        if "refined" in stages:
            stages["refined"][0].append(model.refine(features, asked).cpu())
            stages["refined"][1].append(model.refine(samples, asked).cpu())

    pick = torch.randperm(len(train), generator=generator)[:count]
    reference = train.__getitems__(pick.tolist())[0].float() / 255
    # In chunks: a data set may be larger than the memory.
    mean = torch.stack([chunk.float().sum(0) for chunk in train.pixels.split(CHUNK)]).sum(0) / (255 * len(train))

    errors, distances, agreements = {}, {}, {}
    for stage, (reconstructed, sampled) in stages.items():
        errors[stage] = reconstruction_error(real, torch.cat(reconstructed))
        distances[stage] = classifier_fid(classifier, real, torch.cat(sampled))
        if labels is not None:
            agreements[stage] = class_agreement(classifier, torch.cat(sampled), labels)
    errors["reference"] = reconstruction_error(real, mean.expand_as(real))
    distances["reference"] = classifier_fid(classifier, real, reference)
    if labels is not None:
        agreements["reference"] = class_agreement(classifier, real, labels)
    found = {
        "data": test.name,
        "split": test.split,
        "images": count,
        "samples": count,
        "seed": seed,
        "reconstruction_error": errors,
        "classifier_fid": distances,
    }
    return found | ({"class_agreement": agreements} if agreements else {})
