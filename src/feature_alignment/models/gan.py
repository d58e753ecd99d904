"""The generative adversarial network, a baseline; it reconstructs by optimising the latent (§4)."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from ..core.draws import standard_normal
from ..core.structures import wide
from .adversarial import AdversarialOptions, adversarial_loss, update_discriminator
from .averaging import averaged, update_average
from .inference import inference
from .losses import squared_error
from .model import Model
from .networks import Decoder, Discriminator, orthogonal_
from .options import EncoderOptions, above_zero, at_least
from .updates import Loss, Updates

__all__ = ["GAN", "GANOptions"]


@dataclass(frozen=True)
class GANOptions(EncoderOptions, AdversarialOptions):
    """Options of :class:`GAN`.

    Args:
        normalize: batch normalisation in the generator, as in the paper's.
        search_steps: Adam steps of the search in the latent space.
        search_rate: learning rate of the search.
        search_restarts: number of starting points, the same for all images; the best result is returned.

    Neither generator nor discriminator has its gradient bounded, as in the paper: ``clip_gradient`` has no effect.
    """

    normalize: bool = True
    search_steps: int = 200
    search_rate: float = 0.1
    search_restarts: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(1, search_steps=self.search_steps, search_restarts=self.search_restarts)
        above_zero(search_rate=self.search_rate)


class GAN(Model):
    r"""Generative adversarial network with the encoder's mirror as generator and the encoder as discriminator.

    The losses are equations 5 and 6 without the perceptual term, with :math:`G(z)`, :math:`z \sim
    \mathcal N(0, I)`, in place of :math:`G(\hat r)`. The latent of an image is
    :math:`\arg\min_z \lVert x - G(z) \rVert^2`, minimised by Adam from several starting points.

    That is the paper's. With ``adversarial: relativistic``, ``normalize: false``, ``augment``, ``average_weights`` and,
    given labels, ``projection``, it is a present-day one (the configuration ``r3gan``). With ``projection`` and classes
    the generator is given the label, beside the latent, and the discriminator by projection; the search is then for
    latent and class scores together.

    Args:
        image_shape: ``(C, H, W)``, square.
        latent: size of the latent vector.
        discriminator: a module of your own from images to scores, shape ``(N,)``, instead of the encoder's
            architecture with one output.
        options: see :class:`GANOptions`; ``channels``, ``width`` and ``activation`` are those of the
            discriminator and, mirrored, of the generator.

    Raises:
        ValueError: an option out of range, named.
    """

    Options: ClassVar[type[Any]] = GANOptions
    options: GANOptions
    stage = "decoded"
    has_encoder = False
    encodes_class = True
    clips_gradients = False
    compiled: ClassVar[tuple[str, ...]] = ("generator", "discriminator")

    def __init__(
        self, image_shape: Sequence[int], latent: int = 32, *, discriminator: nn.Module | None = None, **options: Any
    ) -> None:
        super().__init__(image_shape, latent=latent, **options)
        asked = self.options
        channels, width, activation = asked.channels, asked.width, asked.activation
        # Before the generator: only the encoder checks the image's size.
        self.discriminator = discriminator or Discriminator(
            image_shape, channels, width, activation, asked.activate_width, self.classes
        )
        inputs = latent + self.classes
        generator = Decoder(image_shape, inputs, channels, width, activation, normalize=asked.normalize)
        self.generator = averaged(generator.apply(orthogonal_), asked.average_weights)
        self.to(memory_format=torch.channels_last)

    @inference
    def encode(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return the latent whose image is nearest to each image, shape ``(N, latent)``, all found in one batch.

        An image's latent depends on that image and its class alone: the starting points are the same for every image
        and every call, and Adam is elementwise. A class that is not given is sought first, see :meth:`infer_labels`.
        """
        self.check_images(images)
        if self.classes and labels is None:
            labels = self.infer_labels(images)
        return self._sought(images, self.one_hot(labels, len(images)) if self.classes else None)[0]

    @inference
    def infer_labels(self, images: Tensor) -> Tensor:
        """Return the class of each image, int64, shape ``(N,)``, sought together with its latent.

        Raises:
            ValueError: the generator is not given the class.
        """
        self.check_classes()
        self.check_images(images)
        return self._sought(images)[1].argmax(1)

    def _sought(self, images: Tensor, one_hot: Tensor | None = None) -> tuple[Tensor, Tensor]:
        with torch.inference_mode(False), torch.enable_grad():  # a derivative keeps ordinary tensors only
            return self._nearest(images.clone(), None if one_hot is None else one_hot.clone())

    def _nearest(self, images: Tensor, one_hot: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return latents and class scores, both sought unless the class is given, or the generator knows of none."""
        count, restarts = len(images), self.options.search_restarts
        if not count:
            return images.new_zeros(0, self.latent), images.new_zeros(0, self.classes)
        starts = torch.randn(restarts, 1, self.latent, generator=torch.Generator().manual_seed(0))
        starts = starts.expand(-1, count, -1).flatten(0, 1)
        # Wide: Adam's mean square of a gradient vanishes in half precision, and its step is then 0 / 0.
        latent = wide(starts.to(self.device, self.dtype, copy=True)).requires_grad_()
        scores = latent.new_zeros(len(latent), self.classes).requires_grad_()
        targets = images.repeat(restarts, 1, 1, 1)
        given = None if one_hot is None else one_hot.repeat(restarts, 1)

        def errors() -> Tensor:
            classes = given if given is not None or not self.classes else scores.softmax(1).to(self.dtype)
            return squared_error(targets, self.generate(latent.to(self.dtype), classes))

        sought = [latent, scores] if self.classes and given is None else [latent]
        optimizer = Adam(sought, lr=self.options.search_rate)
        for _ in range(self.options.search_steps):
            for each, gradient in zip(sought, torch.autograd.grad(errors().sum(), sought), strict=True):
                each.grad = gradient
            optimizer.step()
        with torch.no_grad():
            best = errors().nan_to_num(nan=math.inf).view(restarts, count).argmin(0)
        chosen = best * count + torch.arange(count, device=self.device)
        return latent.detach()[chosen].to(self.dtype), scores.detach()[chosen]

    @property
    def classes(self) -> int:
        """Number of classes that generator and discriminator are given: 0 without the option ``projection``."""
        return self.options.classes if self.options.projection else 0

    def generate(self, latent: Tensor, one_hot: Tensor | None = None) -> Tensor:
        """Return the image of each latent, given its class if the generator is; differentiable."""
        images: Tensor = self.generator(latent if not self.classes else torch.cat([latent, cast(Tensor, one_hot)], 1))
        return images

    def fit_samplers(self, images: Tensor, labels: Tensor | None = None, chunk: int = 250) -> None:
        """Do nothing: the latent of an image is found by a long search, and training draws all of them from N(0, I)."""
        if self.options.sampler not in (None, "normal"):
            warnings.warn(
                f"the sampler {self.options.sampler} is left out: a GAN draws latents from N(0, I)", stacklevel=2
            )

    @inference
    def decode(self, latent: Tensor, labels: Tensor | None = None, stress: float = 1.0) -> Tensor:  # noqa: D102
        self.check_latent(latent)
        one_hot = self.one_hot(labels, latent.shape[0])
        return self.generate(latent, None if one_hot is None else stress * one_hot)

    def optimizers(self) -> dict[str, Optimizer]:  # noqa: D102
        return {
            "generator": self.adam(self.generator.parameters()),
            "discriminator": self.adam(self.discriminator.parameters(), self.options.discriminator_rate),
        }

    def training_step(self, images: Tensor, labels: Tensor | None, updates: Updates) -> None:
        """Take one update of the discriminator (equation 6) and one of the generator (equation 5)."""
        if self.options.normalize and len(images) == 1:
            raise ValueError(
                "images: the generator's batch normalisation needs 2 in a batch, got 1; normalize=False has none"
            )
        latent = standard_normal(len(images), self.latent, images)
        one_hot = self.one_hot(labels, len(images)) if self.classes else None
        fake = self.generate(latent, one_hot)
        update_discriminator(self.discriminator, self.options, images, fake.detach(), updates, one_hot)

        def loss() -> Loss:
            total = adversarial_loss(self.discriminator, self.options, fake, images, one_hot)
            return Loss(total, {"generator": total.detach()})

        updates.take("generator", loss)
        update_average(self.generator)
