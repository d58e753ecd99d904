"""The autoencoder, a baseline: the same encoder with a separate decoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from .inference import inference
from .losses import squared_error
from .model import Model
from .networks import Decoder, Encoder, check_width, orthogonal_
from .options import EncoderOptions
from .updates import Loss, Updates

__all__ = ["AE", "with_class"]


def with_class(latent: Tensor, one_hot: Tensor | None) -> Tensor:
    """Append the class to each latent, as the input of a conditional decoder: shape ``(N, latent + classes)``."""
    return latent if one_hot is None else torch.cat([latent, one_hot], 1)


class AE(Model):
    r"""Autoencoder: minimises :math:`\lVert x - D(E(x)) \rVert^2`, averaged over the batch.

    With ``classes`` the decoder is given the one-hot label beside the latent, the encoder is not.
    Samples are decoded from a distribution fitted to the latents of training images.

    Args:
        image_shape: ``(C, H, W)``, square.
        latent: size of the latent vector.
        encoder: a module of your own from ``(N, C, H, W)`` to ``(N, width)``, instead of the one described
            by ``channels``, ``width`` and ``activation``.
        options: see :class:`feature_alignment.models.options.EncoderOptions`; the decoder is the encoder's mirror.

    Raises:
        ValueError: an option out of range, named.
    """

    Options: ClassVar[type[Any]] = EncoderOptions
    options: EncoderOptions
    has_prior = False
    stage = "decoded"
    compiled: ClassVar[tuple[str, ...]] = ("encoder", "decoder")

    def __init__(
        self, image_shape: Sequence[int], latent: int = 32, *, encoder: nn.Module | None = None, **options: Any
    ) -> None:
        super().__init__(image_shape, latent=latent, **options)
        if encoder is not None:
            check_width(encoder, image_shape, self.options.width)
        channels, width, activation = self.options.channels, self.options.width, self.options.activation
        own = None if encoder else Encoder(image_shape, channels, width, activation, self.options.activate_width)
        self.encoder: nn.Module = encoder or cast(nn.Module, own).apply(orthogonal_)
        self.mean = nn.Linear(width, latent).apply(orthogonal_)
        inputs = latent + self.classes
        self.decoder = Decoder(image_shape, inputs, channels, width, activation).apply(orthogonal_)
        self.to(memory_format=torch.channels_last)

    @inference
    def encode(self, images: Tensor, labels: Tensor | None = None) -> Tensor:  # noqa: D102
        self.check_images(images)
        latent: Tensor = self.mean(self.encoder(images))
        return latent

    @inference
    def decode(self, latent: Tensor, labels: Tensor | None = None, stress: float = 1.0) -> Tensor:  # noqa: D102
        self.check_latent(latent)
        one_hot = self.one_hot(labels, latent.shape[0])
        images: Tensor = self.decoder(with_class(latent, None if one_hot is None else stress * one_hot))
        return images

    def optimizers(self) -> dict[str, Optimizer]:  # noqa: D102
        return {"autoencoder": self.adam(self.parameters())}

    def training_step(self, images: Tensor, labels: Tensor | None, updates: Updates) -> None:
        """Take one update on the reconstruction error."""

        one_hot = self.one_hot(labels if self.classes else None, len(images))

        def loss() -> Loss:
            latent = self.mean(self.encoder(images))
            error = squared_error(images, self.decoder(with_class(latent, one_hot))).mean()
            return Loss(error, {"reconstruction": error.detach()})

        updates.take("autoencoder", loss, self.options.clip_gradient)
