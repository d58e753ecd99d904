"""The images of a comparison: the search trains and measures on training images only."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import NamedTuple

import torch

from ...data import DataOptions, Images, TrainingData, load
from ...data.splits import held_out
from ...samplers.split import spare_classes

__all__ = ["Given", "Sets", "Split", "evenly", "every_tenth"]


class Split(NamedTuple):
    """Images to train on, and images held out from training on which the result is measured."""

    train: Images
    held_out: Images


class Sets:
    """The splits of a data set.

    Args:
        name: of a data set or a folder, see :func:`feature_alignment.data.load`.
    """

    def __init__(self, name: str) -> None:
        self.train, self._name = load(name, "train"), name
        #: Largest number of test images, evenly spaced; none for all.
        self.images: int | None = None

    @cached_property
    def search(self) -> Split:
        """A tenth of the training images held out from the others."""
        return every_tenth(self.train)

    @cached_property
    def table(self) -> Split:
        """All training images, and the test images, which are not read before."""
        test = load(self._name, "test")
        return Split(self.train, evenly(test, self.images))


def every_tenth(images: Images) -> Split:
    """Hold out every tenth image, so that a set which is ordered by class keeps its shares of the classes.

    Example:
        >>> ten = Images("squares", "train", torch.arange(10).byte().view(10, 1, 1, 1), None, ())
        >>> [part.pixels.flatten().tolist() for part in every_tenth(ten)]
        [[0, 1, 2, 3, 4, 5, 6, 7, 8], [9]]
    """
    chosen = torch.from_numpy(held_out(len(images)))
    if images.labels is not None:
        chosen = spare_classes(chosen, images.labels)
    return Split(_selected(images, ~chosen), _selected(images, chosen))


def evenly(images: Images, count: int | None) -> Images:
    """Return ``count`` images, evenly spaced; all of them if there are fewer, or for none."""
    if count is None or count >= len(images):
        return images
    return _selected(images, torch.linspace(0, len(images) - 1, count).round().long())


def _selected(images: Images, chosen: torch.Tensor) -> Images:
    labels = None if images.labels is None else images.labels[chosen]
    return replace(images, pixels=images.pixels[chosen], labels=labels)


class Given(TrainingData):
    """Training data of images at hand.

    Args:
        images: the images to train on.
        batch_size: images per update, at most as many as there are.
        labels: use the labels, if there are any.
    """

    def __init__(self, images: Images, batch_size: int, labels: bool) -> None:
        self.options = DataOptions(images.name, batch_size, labels=labels)
        self.batch_size, self.train, self.image_shape = batch_size, images, images.shape
        self.classes = len(images.classes) if labels and images.labels is not None else 0
