"""The input of all measures: held-out images, and a model's reconstructions and samples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

from torch import Tensor

from ..data import Images
from .classifier import Classifier, classifier_for
from .inception import Inception, inception_features

__all__ = ["Comparison", "LeftOut"]


class LeftOut(Exception):  # noqa: N818 (it says why something is left out, which is no error)
    """A measure cannot be taken; the message is the reason, for the notes of ``metrics.json``."""


@dataclass
class Comparison:
    """Images, a model's reconstructions and samples, and the feature extractors, which are created on first use.

    Attributes:
        train: the training split.
        held_out: the images measured.
        real: an equal number of training images, the reference for samples.
        labels: of the held-out images, given to a conditional model; none for an unconditional one.
        reconstructions, samples: by stage, ``reference`` last; in [0, 1], shape ``(N, C, H, W)``, on the CPU.
        inception: feature extractor of FID and KID; none leaves them out.
        notes: caveats by measure; a measure may add to them.
    """

    train: Images
    held_out: Images
    real: Images
    labels: Tensor | None
    reconstructions: dict[str, Tensor]
    samples: dict[str, Tensor]
    inception: Inception | None = None
    notes: dict[str, str] = field(default_factory=dict)

    @cached_property
    def images(self) -> Tensor:
        """The held-out images, in [0, 1], shape ``(N, C, H, W)``."""
        return self.held_out.images()

    @cached_property
    def classifier(self) -> Classifier:
        """The data set's classifier."""
        return classifier_for(self.train)

    @cached_property
    def inception_features(self) -> tuple[Tensor, dict[str, Tensor]]:
        """Inception's features of the held-out images, and of the samples by stage."""
        assert self.inception is not None
        made = {stage: self.inception.features(each) for stage, each in self.samples.items() if stage != "reference"}
        return inception_features(self.inception, self.held_out), made | {
            "reference": inception_features(self.inception, self.real)  # real images, whose features are cached
        }

    def of_reconstructions(self, measure: Callable[[Tensor, Tensor], float]) -> dict[str, float]:
        """Return, by stage, ``measure(images, reconstructions)``."""
        return {stage: measure(self.images, each) for stage, each in self.reconstructions.items()}

    def of_samples(self, measure: Callable[[Tensor, Tensor], float]) -> dict[str, float]:
        """Return, by stage, ``measure(images, samples)``."""
        return {stage: measure(self.images, each) for stage, each in self.samples.items()}
