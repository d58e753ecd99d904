"""The variational autoencoder, a baseline: the same encoder and loss as VFA with a decoder of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from .ae import AE
from .base import Batch
from .losses import kl_divergence, squared_error
from .networks import orthogonal_
from .variational import Beta, Posterior, check_beta, kl_weight

__all__ = ["VAE"]


class VAE(AE):
    r"""Variational autoencoder, the loss of equation 4 with :math:`\hat r` replaced by a decoder's image.

    Args:
        image_shape: ``(C, H, W)``, square.
        latent: size of the latent vector.
        width: size of the encoder's output.
        beta: weight of the KL divergence: a number, or ``uniform`` for a draw from U(0, 1) per example and step.
        kl_warmup: number of steps over which that weight grows linearly from 0.
        kwargs: as for :class:`AE`.

    Raises:
        ValueError: an option out of range, named.
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        latent: int = 32,
        width: int = 4096,
        beta: float | Beta = 1.0,
        kl_warmup: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(image_shape, latent, width=width, **kwargs)
        check_beta(beta)
        self.latent_statistics = None  # the prior is N(0, I)
        self.log_variance = nn.Linear(width, latent).apply(orthogonal_)

    def posterior(self, images: Tensor) -> Posterior:
        """Return mean and log-variance of each image, and no class scores."""
        hidden = self.encoder(images)
        return Posterior(self.mean(hidden), self.log_variance(hidden), hidden.new_empty(len(hidden), 0))

    def training_step(self, batch: Batch, batch_index: int) -> None:
        """Take one step on the loss of equation 4."""
        (optimizer,) = self.scheduled_optimizers()
        images, options = batch[0], self.hparams
        posterior = self.posterior(images)
        reconstruction = squared_error(images, self.decoder(posterior.draw()))
        divergence = kl_divergence(posterior.mean, posterior.log_variance)
        beta: Tensor | float = kl_weight(divergence, options["beta"], options["kl_warmup"], self.steps_done)
        self.step(optimizer, (reconstruction + beta * divergence).mean(), clip=options["clip_gradient"])
        self.log_dict(
            {"reconstruction": reconstruction.mean().detach(), "kl": divergence.mean().detach()}, prog_bar=True
        )
