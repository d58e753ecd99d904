"""What the page asks of a model, without the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import torch
from torch import Tensor

from ..models import Model
from .directions import Directions, directions_of

__all__ = ["End", "Explored", "Point"]

#: Sliders along principal directions.
SLIDERS = 8
#: Standard deviations to which the sliders go.
FARTHEST = 4.0


@dataclass(frozen=True)
class Point:
    """A latent, and where the sliders stood for it; plain numbers, which a browser's session can hold."""

    latent: tuple[float, ...]
    sliders: tuple[float, ...]


#: An end of a walk: a latent and its class, none for a model without classes.
End: TypeAlias = tuple[Point, int | None]


@dataclass(frozen=True)
class Explored:
    """A model, in eval mode, and what is moved along.

    Attributes:
        model: any model.
        title: what the user calls it.
    """

    model: Model
    title: str = ""

    @cached_property
    def directions(self) -> Directions:
        """At most :data:`SLIDERS` of them."""
        return directions_of(self.model, SLIDERS)

    @property
    def samplers(self) -> list[str]:
        """The samplers there are, that which is used by default first."""
        used = next(name for name, each in self.model.samplers.items() if each is self.model.sampler())
        return [used, *(name for name in self.model.samplers if name != used)]

    def mean(self) -> Point:
        """Return the mean latent; every slider is at 0."""
        return Point(tuple(self.directions.mean.tolist()), (0.0,) * len(self.directions))

    def read(self, images: Tensor) -> tuple[Point, int | None]:
        """Return the latent of an image, shape ``(1, C, H, W)``, and its inferred class."""
        images = images.to(self.model.device, self.model.dtype)
        labels = self.model.assumed_labels(images) if self.model.classes else None
        latent = self.model.encode(images, labels)
        where = self.directions.coordinates(latent)[0].clamp(-FARTHEST, FARTHEST)
        label = None if labels is None else int(labels)
        return Point(tuple(latent[0].tolist()), tuple(round(each, 2) for each in where.tolist())), label

    def moved(self, point: Point, sliders: Sequence[float]) -> Tensor:
        """Return the latent with the sliders moved, shape ``(1, latent)``; unmoved, it is the image's own."""
        latent, change = self._tensor(point.latent), self._tensor(sliders) - self._tensor(point.sliders)
        return self.directions.move(latent, change)

    def pictures(self, latent: Tensor, labels: Tensor | None, stress: float = 1.0) -> dict[str, Tensor]:
        """Return the decoded images, and the refined ones if there is a refiner, by their names."""
        decoded = self.model.decode(latent, labels, stress)
        if self.model.refiner is None:
            return {self.model.stage: decoded}
        return {self.model.stage: decoded, "refined": self.model.refine(decoded, labels)}

    def last(self, latent: Tensor, labels: Tensor | None, stress: float = 1.0) -> Tensor:
        """Return the best images there are of latents: refined, or else as decoded."""
        *_, images = self.pictures(latent, labels, stress).values()
        return images

    def draw(self, sampler: str, label: int | None, count: int, stress: float, seed: int) -> Tensor:
        """Return samples of one class, or of a model without classes."""
        generator = torch.Generator().manual_seed(seed)
        labels = self.labels(label, count)
        return self.last(self.model.prior(count, generator, labels, sampler), labels, stress)

    def two_samples(self) -> list[End]:
        """Return two samples, of the first and the last class, from the sampler that is used by default."""
        generator = torch.Generator().manual_seed(0)
        labels = torch.tensor([0, self.model.classes - 1]) if self.model.classes else None
        latents = self.model.prior(2, generator, labels).tolist()
        classes = [None, None] if labels is None else labels.tolist()
        return [(Point(tuple(latent), ()), label) for latent, label in zip(latents, classes, strict=True)]

    def walk(self, ends: Sequence[End], along: Tensor) -> Tensor:
        """Return images on the straight line between two latents (and classes), at fractions of it, shape ``(N,)``."""
        along = along.to(self.model.device, self.model.dtype)[:, None]
        weights = torch.cat([1 - along, along], 1)
        latent = weights @ torch.cat([self._tensor(point.latent) for point, _ in ends])
        labels = torch.tensor([label for _, label in ends]) if self.model.classes else None
        return self.last(latent, self.model.between(weights, labels))

    def labels(self, label: int | None, count: int) -> Tensor | None:
        """Return a class for each of ``count`` images; none for a model without classes."""
        return torch.full((count,), label or 0, device=self.model.device) if self.model.classes else None

    def _tensor(self, numbers: Sequence[float]) -> Tensor:
        return torch.tensor([*numbers], device=self.model.device, dtype=self.model.dtype)[None]
