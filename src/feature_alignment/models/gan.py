"""The generative adversarial network, a baseline; it reconstructs by optimising the latent (§4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from .adversarial import AdversarialOptions, update_discriminator
from .losses import generator_loss, squared_error
from .model import Model, inference
from .networks import Decoder, Discriminator, orthogonal_
from .options import EncoderOptions, at_least
from .updates import Loss, Updates

__all__ = ["GAN", "GANOptions"]


@dataclass(frozen=True)
class GANOptions(EncoderOptions, AdversarialOptions):
    """Options of :class:`GAN`.

    Args:
        search_steps: Adam steps of the search in the latent space.
        search_rate: learning rate of the search.
        search_restarts: number of starting points, the same for all images; the best result is returned.
    """

    search_steps: int = 200
    search_rate: float = 0.1
    search_restarts: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(1, search_steps=self.search_steps, search_restarts=self.search_restarts)


class GAN(Model):
    r"""Generative adversarial network with the encoder's mirror as generator and the encoder as discriminator.

    The losses are equations 5 and 6 without the perceptual term, with :math:`G(z)`, :math:`z \sim
    \mathcal N(0, I)`, in place of :math:`G(\hat r)`. The latent of an image is
    :math:`\arg\min_z \lVert x - G(z) \rVert^2`, minimised by Adam from several starting points.

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
    compiled: ClassVar[tuple[str, ...]] = ("generator", "discriminator")

    def __init__(
        self, image_shape: Sequence[int], latent: int = 32, *, discriminator: nn.Module | None = None, **options: Any
    ) -> None:
        super().__init__(image_shape, latent=latent, **options)
        channels, width, activation = self.options.channels, self.options.width, self.options.activation
        # Before the generator: only the encoder checks the image's size.
        self.discriminator = discriminator or Discriminator(image_shape, channels, width, activation)
        self.generator = Decoder(image_shape, latent, channels, width, activation, normalize=True).apply(orthogonal_)
        self.to(memory_format=torch.channels_last)

    @inference
    def encode(self, images: Tensor) -> Tensor:
        """Return the latent whose image is nearest to each image, shape ``(N, latent)``, all found in one batch.

        An image's latent depends on that image alone: the starting points are the same for every image and every
        call, and Adam is elementwise.
        """
        self.check_images(images)
        count, restarts = len(images), self.options.search_restarts
        starts = torch.randn(restarts, 1, self.latent, generator=torch.Generator().manual_seed(0))
        starts = starts.expand(-1, count, -1).flatten(0, 1)
        latent = starts.to(self.device, self.dtype, copy=True).requires_grad_()
        targets = images.repeat(restarts, 1, 1, 1)
        optimizer = Adam([latent], lr=self.options.search_rate)
        with torch.enable_grad():
            for _ in range(self.options.search_steps):
                error = squared_error(targets, self.generator(latent)).sum()
                (latent.grad,) = torch.autograd.grad(error, latent)
                optimizer.step()
        errors = squared_error(targets, self.generator(latent)).view(restarts, count)
        best = errors.argmin(0)
        return latent.detach().view(restarts, count, -1)[best, torch.arange(count, device=self.device)]

    @inference
    def decode(self, latent: Tensor, labels: Tensor | None = None, stress: float = 1.0) -> Tensor:  # noqa: D102
        self.check_latent(latent)
        self.one_hot(labels, len(latent))
        images: Tensor = self.generator(latent)
        return images

    def optimizers(self) -> dict[str, Optimizer]:  # noqa: D102
        return {
            "generator": self.adam(self.generator.parameters()),
            "discriminator": self.adam(self.discriminator.parameters(), self.options.discriminator_rate),
        }

    def training_step(self, images: Tensor, labels: Tensor | None, updates: Updates) -> None:
        """Take one update of the discriminator (equation 6) and one of the generator (equation 5)."""
        fake = self.generator(torch.randn(len(images), self.latent, device=self.device, dtype=images.dtype))
        update_discriminator(self.discriminator, self.options, images, fake.detach(), updates)

        def loss() -> Loss:
            scores = self.discriminator(fake)
            total = generator_loss(scores, self.options.adversarial).mean()
            return Loss(total, {"generator": total.detach()})

        updates.take("generator", loss)
