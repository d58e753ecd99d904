"""The generative adversarial network, a baseline; it reconstructs by a search in its latent space (§4)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from .adversarial import discriminator_step
from .base import Batch, Model, inference, one_of
from .losses import Adversarial, generator_loss, squared_error
from .networks import Decoder, Discriminator, orthogonal_

__all__ = ["GAN"]


class GAN(Model):
    r"""Generative adversarial network with the encoder's mirror as generator and the encoder as discriminator.

    The losses are equations 5 and 6 without the perceptual term, with :math:`G(z)`, :math:`z \sim
    \mathcal N(0, I)`, in the place of :math:`G(\hat r)`. The latent of an image is
    :math:`\arg\min_z \lVert x - G(z) \rVert^2`, searched by gradient steps from several starts.

    Args:
        image_shape: ``(C, H, W)``, square.
        latent: size of the latent vector.
        channels, width, activation: of the discriminator and, mirrored, of the generator, see
            :class:`feature_alignment.networks.Encoder` and :class:`feature_alignment.networks.Decoder`.
        discriminator: a module of your own from images to scores, shape ``(N,)``, instead.
        adversarial: ``least-squares`` (equations 5, 6), ``wasserstein`` with clipped critic weights, or
            ``wasserstein-gp`` with a gradient penalty.
        critic_clip: bound on the critic's weights, for ``wasserstein``.
        penalty_weight: weight of the gradient penalty, for ``wasserstein-gp``.
        discriminator_rate: its learning rate, as a multiple of ``learning_rate``.
        search_steps: Adam steps of a search in the latent space.
        search_rate: its learning rate.
        search_restarts: starts of the search, drawn once for all images; the best end counts.
        kwargs: as for :class:`Model`: ``learning_rate``, ``betas``, ``schedule``.

    Raises:
        ValueError: an option out of range, named.
    """

    stage = "decoded"
    optimizers_per_step = 2
    compiled: tuple[str, ...] = ("generator", "discriminator")

    def __init__(
        self,
        image_shape: Sequence[int],
        latent: int = 32,
        channels: Sequence[int] = (32, 64),
        width: int = 4096,
        activation: str = "leaky_relu",
        discriminator: nn.Module | None = None,
        adversarial: Adversarial = "least-squares",
        critic_clip: float = 0.01,
        penalty_weight: float = 10.0,
        discriminator_rate: float = 1.0,
        search_steps: int = 200,
        search_rate: float = 0.1,
        search_restarts: int = 4,
        **kwargs: Any,
    ) -> None:
        super().__init__(image_shape, latent, **kwargs)
        one_of("adversarial", adversarial, Adversarial)
        for name, value in (("search_steps", search_steps), ("search_restarts", search_restarts)):
            if value < 1:
                raise ValueError(f"{name}: expected at least 1, got {value}")
        # Before the generator, whose mirror cannot tell what is wrong with a size that does not fit.
        self.discriminator = discriminator or Discriminator(image_shape, channels, width, activation)
        self.generator = Decoder(image_shape, latent, channels, width, activation, normalize=True).apply(orthogonal_)
        self.to(memory_format=torch.channels_last)

    @inference
    def encode(self, images: Tensor) -> Tensor:
        """Return the latent whose image is nearest to each image, searched for all images at once.

        An image's latent depends on that image alone: the starts are the same for every image and every
        call, and Adam acts on each number by itself.
        """
        self.check_images(images)
        count, restarts = len(images), self.hparams["search_restarts"]
        starts = torch.randn(restarts, 1, self.latent, generator=torch.Generator().manual_seed(0))
        latent = starts.expand(-1, count, -1).flatten(0, 1).to(self.device, copy=True).requires_grad_()
        targets = images.repeat(restarts, 1, 1, 1)
        optimizer = Adam([latent], lr=self.hparams["search_rate"])
        with torch.enable_grad():
            for _ in range(self.hparams["search_steps"]):
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

    def configure_optimizers(self) -> list[Optimizer]:  # noqa: D102
        return [
            self.adam(self.generator.parameters()),
            self.adam(self.discriminator.parameters(), self.hparams["discriminator_rate"]),
        ]

    def training_step(self, batch: Batch, batch_index: int) -> None:
        """Take one step of the discriminator (equation 6) and one of the generator (equation 5)."""
        generator, discriminator = self.scheduled_optimizers()
        images = batch[0]
        fake = self.generator(torch.randn(len(images), self.latent, device=self.device, dtype=images.dtype))
        discriminator_step(self, self.discriminator, discriminator, images, fake.detach())

        self.toggle_optimizer(generator)  # only the generator gathers gradients
        loss = generator_loss(self.discriminator(fake), self.hparams["adversarial"]).mean()
        self.step(generator, loss)
        self.untoggle_optimizer(generator)
        self.log("generator", loss.detach(), prog_bar=True)
