"""The data of a training: its options, and the splits they select."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from .batches import Batches
from .errors import DataError
from .images import Images
from .loading import load
from .splits import Split

__all__ = ["DataOptions", "TrainingData"]


@dataclass(frozen=True)
class DataOptions:
    """Options of the data.

    Args:
        name: a named set such as mnist, a folder or archive of images, or owner/name on the Hugging Face Hub, see
            :func:`feature_alignment.data.load`.
        batch_size: images per batch; an incomplete last batch is dropped.
        image_size: side of the images; by default that of the data set (64 for a folder).
        channels: 1 or 3; by default those of the data set (3 for a folder).
        labels: use the labels, if the data set has any, for a conditional model.
        strict: stop if anything in the data set would be skipped, instead of counting it in a warning.
        image: column of the images, for a set of the Hub; by default the only one.
        label: column of the labels, for a set of the Hub; by default ``label``, or the only column of classes.
        config: configuration, for a set of the Hub that has several.
        white: the value of white in images of more than 8 bits; by default by the files' headers.
    """

    name: str = "mnist-mini"
    batch_size: int = 128
    image_size: int | None = None
    channels: int | None = None
    labels: bool = True
    strict: bool = False
    image: str | None = None
    label: str | None = None
    config: str | None = None
    white: float | None = None


class TrainingData:
    """A data set for training.

    Args:
        options: which data set, and its batch size.

    Attributes:
        options: as given.
        batch_size: as in the options.
        train: the training split, with its labels even if ``options.labels`` is false.
        image_shape: ``(C, H, W)`` of the images.
        classes: number of classes for a conditional model, 0 for an unconditional one.

    Raises:
        DataError: the data set cannot be loaded, or is smaller than a batch.
    """

    def __init__(self, options: DataOptions) -> None:
        self.options, self.batch_size = options, options.batch_size
        self.train = self._load("train")
        if not 1 <= self.batch_size <= len(self.train):
            raise DataError(
                f"batch_size: expected 1 to {len(self.train)}, the training images of {options.name}, "
                f"got {self.batch_size}"
            )
        self.image_shape = self.train.shape
        self.classes = len(self.train.classes) if options.labels and self.train.labels is not None else 0

    def test(self) -> Images:
        """Return the held-out images."""
        return self._load("test")

    def batches(self, seed: int, device: torch.device | str = "cpu", rank: int = 0, world_size: int = 1) -> Batches:
        """Return the batches to train on, with labels for a conditional model only; see :class:`Batches`."""
        images = self.train if self.classes else replace(self.train, labels=None)
        return Batches(images, self.batch_size, seed, device, rank, world_size)

    def _load(self, split: Split) -> Images:
        chosen = self.options
        return load(
            chosen.name,
            split,
            image_size=chosen.image_size,
            channels=chosen.channels,
            strict=chosen.strict,
            image=chosen.image,
            label=chosen.label,
            config=chosen.config,
            white=chosen.white,
        )
