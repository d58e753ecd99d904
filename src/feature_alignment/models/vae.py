"""The variational autoencoder, a baseline: the encoder and loss of VFA with a separate decoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from .ae import AE, with_class
from .losses import kl_divergence, squared_error
from .model import inference
from .networks import orthogonal_
from .options import EncoderOptions
from .updates import Loss, Updates
from .variational import Posterior, VariationalOptions, kl_weight

__all__ = ["VAE", "VAEOptions"]


@dataclass(frozen=True)
class VAEOptions(EncoderOptions, VariationalOptions):
    """Options of :class:`VAE`: those of the encoder and of the KL divergence."""


class VAE(AE):
    r"""Variational autoencoder: the loss of equation 4 with :math:`\hat r` replaced by a decoder's output.

    With ``classes`` it is the conditional VAE whose encoder is not given the label: the decoder's input is the one-hot
    label beside the latent.

    Args:
        image_shape, latent, encoder: as for :class:`AE`.
        options: see :class:`VAEOptions`.

    Raises:
        ValueError: an option out of range, named.
    """

    Options: ClassVar[type[Any]] = VAEOptions
    options: VAEOptions
    has_prior = True

    def __init__(
        self, image_shape: Sequence[int], latent: int = 32, *, encoder: nn.Module | None = None, **options: Any
    ) -> None:
        super().__init__(image_shape, latent, encoder=encoder, **options)
        self.log_variance = nn.Linear(self.options.width, latent).apply(orthogonal_)

    @inference
    def sampled_latents(self, images: Tensor) -> Tensor:  # noqa: D102
        return self.posterior(images).draw()

    def posterior(self, images: Tensor) -> Posterior:
        """Return the posterior of each image; it has no class scores."""
        hidden = self.encoder(images)
        return Posterior.bounded(self.mean(hidden), self.log_variance(hidden), hidden.new_empty(len(hidden), 0))

    def training_step(self, images: Tensor, labels: Tensor | None, updates: Updates) -> None:
        """Take one update on the loss of equation 4."""
        options, one_hot = self.options, self.one_hot(labels if self.classes else None, len(images))

        def loss() -> Loss:
            posterior = self.posterior(images)
            error = squared_error(images, self.decoder(with_class(posterior.draw(), one_hot)))
            divergence = kl_divergence(posterior.mean, posterior.log_variance)
            beta = kl_weight(divergence, options.beta, options.kl_warmup, updates.done)
            terms = {"reconstruction": error.mean().detach(), "kl": divergence.mean().detach()}
            return Loss((error + beta * divergence).mean(), terms)

        updates.take("autoencoder", loss, options.clip_gradient)
