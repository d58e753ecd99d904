"""A small classifier trained on the data set itself: a feature extractor that needs no download."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from torch import Tensor, nn

from ..core.draws import seeded
from ..data import Images
from ..progress import progress
from .cache import cached_tensors
from .chunks import in_chunks
from .distances import frechet_distance

__all__ = ["Classifier", "class_agreement", "classifier_fid", "classifier_for"]

#: Images per batch of its training.
BATCH = 64


class Classifier(nn.Module):
    """A small convolutional classifier whose penultimate features stand in for Inception's.

    Args:
        channels, image_size: of the images, which are square.
        classes: number of them.

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
        return in_chunks(lambda chunk: self(chunk).argmax(1), images)


def classifier_for(train: Images, *, steps: int = 1500, seed: int = 0) -> Classifier:
    """Return the classifier of a data set, in eval mode, trained on the training split once and cached.

    If the set has no labels, it learns to predict rotations by multiples of 90 degrees (four classes).

    Args:
        train: the training split.
        steps: number of Adam updates, at a learning rate of 1e-3 on 64 images, each batch shifted at random by up
            to two pixels.
        seed: of initialisation, batches, shifts and dropout.
    """
    classes = len(train.classes) if train.labels is not None else 4
    key = hashlib.sha256(f"{train.shape} {classes} {len(train)} {steps} {seed}".encode())
    for part in (*train.pixels.split(1000), *([] if train.labels is None else [train.labels])):
        key.update(part.numpy().tobytes())
    name = f"classifier-{Path(train.name).name}"
    # It is trained, the first time, whatever the context it is asked for in.
    with seeded(seed), torch.inference_mode(False), torch.enable_grad():
        classifier = Classifier(train.shape[0], train.shape[1], classes)
        classifier.load_state_dict(
            cached_tensors(name, key.hexdigest()[:16], lambda: _trained(classifier, train, steps))
        )
    return classifier.eval()


def _trained(classifier: Classifier, train: Images, steps: int) -> dict[str, Tensor]:
    optimizer = torch.optim.Adam(classifier.parameters(), lr=1e-3)
    for _ in progress(range(steps), "training the classifier for the measures"):
        images, labels = _batch(train)
        loss = nn.functional.cross_entropy(classifier(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return classifier.state_dict()


def _batch(train: Images) -> tuple[Tensor, Tensor]:
    """Return random images, shifted together, and their labels or quarter turns."""
    images, labels = train.chosen(torch.randint(len(train), (BATCH,)))
    if labels is None:
        labels = torch.randint(4, (BATCH,))
        images = torch.stack([each.rot90(int(turns), (1, 2)) for each, turns in zip(images, labels, strict=True)])
    shift = torch.randint(-2, 3, (2,)).tolist()
    return (images.float() / 255).roll(shift, (2, 3)), labels


@torch.no_grad()
def classifier_fid(classifier: Classifier, real: Tensor, generated: Tensor) -> float:
    """Fréchet distance (equation 8) between two sets of images in the features of ``classifier``.

    It is not comparable with FID, which uses the features of Inception-v3.

    Args:
        classifier: in eval mode.
        real, generated: in [0, 1], shape ``(N, C, H, W)``, two images or more each.
    """
    return frechet_distance(*(in_chunks(classifier.features, images) for images in (real, generated)))


def class_agreement(classifier: Classifier, images: Tensor, labels: Tensor) -> float:
    """Return the share of ``images`` that ``classifier`` assigns to ``labels``, in [0, 1].

    Raises:
        ValueError: labels that are not of shape ``(N,)``.
    """
    if labels.shape != images.shape[:1]:
        raise ValueError(f"labels: expected shape ({len(images)},), got {tuple(labels.shape)}")
    return float((classifier.classify(images) == labels).double().mean())
