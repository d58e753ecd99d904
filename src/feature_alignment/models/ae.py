"""The autoencoder, a baseline: the same encoder with a decoder of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from .base import Batch, Model, inference
from .losses import squared_error
from .networks import Decoder, Encoder, orthogonal_

__all__ = ["AE"]


class AE(Model):
    r"""Autoencoder: minimises :math:`\lVert x - D(E(x)) \rVert^2`.

    Samples are decoded from a normal distribution with the mean and variance that the latents had in training.

    Args:
        image_shape: ``(C, H, W)``, square.
        latent: size of the latent vector.
        encoder: a module of your own from ``(N, C, H, W)`` to ``(N, width)``, instead of the one described
            by ``channels``, ``width`` and ``activation``.
        channels, width, activation: of the encoder and, mirrored, of the decoder, see
            :class:`feature_alignment.networks.Encoder` and :class:`feature_alignment.networks.Decoder`.
        clip_gradient: largest norm of the gradient; none for no bound.
        kwargs: as for :class:`Model`: ``learning_rate``, ``betas``, ``schedule``.

    Raises:
        ValueError: an option out of range, named.
    """

    stage = "decoded"
    compiled: tuple[str, ...] = ("encoder", "decoder")

    def __init__(
        self,
        image_shape: Sequence[int],
        latent: int = 32,
        encoder: nn.Module | None = None,
        channels: Sequence[int] = (32, 64),
        width: int = 4096,
        activation: str = "leaky_relu",
        clip_gradient: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(image_shape, latent, **kwargs)
        self.encoder: nn.Module = encoder or Encoder(image_shape, channels, width, activation).apply(orthogonal_)
        self.mean = nn.Linear(width, latent).apply(orthogonal_)
        self.decoder = Decoder(image_shape, latent, channels, width, activation).apply(orthogonal_)
        self.latent_statistics = nn.BatchNorm1d(latent, affine=False)
        self.to(memory_format=torch.channels_last)

    @inference
    def encode(self, images: Tensor) -> Tensor:  # noqa: D102
        self.check_images(images)
        latent: Tensor = self.mean(self.encoder(images))
        return latent

    @inference
    def decode(self, latent: Tensor, labels: Tensor | None = None, stress: float = 1.0) -> Tensor:  # noqa: D102
        self.check_latent(latent)
        self.one_hot(labels, len(latent))
        images: Tensor = self.decoder(latent)
        return images

    def configure_optimizers(self) -> list[Optimizer]:  # noqa: D102
        return [self.adam(self.parameters())]

    def training_step(self, batch: Batch, batch_index: int) -> None:
        """Take one step on the reconstruction error."""
        (optimizer,) = self.scheduled_optimizers()
        images = batch[0]
        latent = self.mean(self.encoder(images))
        self.track_latents(latent)
        loss = squared_error(images, self.decoder(latent)).mean()
        self.step(optimizer, loss, clip=self.hparams["clip_gradient"])
        self.log("reconstruction", loss.detach(), prog_bar=True)
