"""The variational autoencoder, a baseline: the encoder and loss of VFA with a separate decoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from .ae import AE, with_class
from .inference import inference
from .losses import kl_divergence, squared_error
from .networks import ACTIVATIONS, orthogonal_
from .options import EncoderOptions
from .updates import Loss, Updates
from .variational import Posterior, VariationalOptions, kl_weight

__all__ = ["VAE", "VAEOptions"]


@dataclass(frozen=True)
class VAEOptions(EncoderOptions, VariationalOptions):
    """Options of :class:`VAE`: those of the encoder and of the KL divergence."""


class VAE(AE):
    r"""Variational autoencoder: the loss of equation 4 with a decoder's output in the place of the feature.

    With ``classes`` it is the conditional VAE (Sohn et al. 2015): decoder and encoder are given the one-hot label, the
    decoder beside the latent, the encoder in one more layer before its heads.

    Args:
        image_shape, latent, encoder: as for :class:`AE`.
        options: see :class:`VAEOptions`.

    Raises:
        ValueError: an option out of range, named.
    """

    Options: ClassVar[type[Any]] = VAEOptions
    options: VAEOptions
    has_prior = True
    encodes_class = True

    def __init__(
        self, image_shape: Sequence[int], latent: int = 32, *, encoder: nn.Module | None = None, **options: Any
    ) -> None:
        super().__init__(image_shape, latent, encoder=encoder, **options)
        width = self.options.width
        self.log_variance = nn.Linear(width, latent).apply(orthogonal_)
        self.given_class: nn.Module | None = None
        if self.classes:
            activation = ACTIVATIONS[self.options.activation]()
            self.given_class = nn.Sequential(nn.Linear(width + self.classes, width), activation).apply(orthogonal_)

    @inference
    def encode(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return the posterior's mean for each image, shape ``(N, latent)``, given its class or that inferred."""
        self.check_images(images)
        return self.posterior(images, labels).mean

    @inference
    def sampled_latents(self, images: Tensor, labels: Tensor | None = None) -> Tensor:  # noqa: D102
        return self.posterior(images, labels).draw()

    def posterior(self, images: Tensor, labels: Tensor | None = None) -> Posterior:
        """Return the posterior of each image, differentiable; it has no class scores.

        Args:
            images: in [0, 1], shape ``(N, C, H, W)``.
            labels: as for :meth:`Model.encode`; a conditional model infers them if none are given.
        """
        hidden = self.encoder(images)
        if self.given_class is not None:
            one_hot = self.one_hot(self.infer_labels(images) if labels is None else labels, len(images))
            hidden = self.given_class(with_class(hidden, one_hot))
        scores, largest = hidden.new_empty(len(hidden), 0), self.options.max_log_variance
        return Posterior.bounded(self.mean(hidden), self.log_variance(hidden), scores, largest)

    def training_step(self, images: Tensor, labels: Tensor | None, updates: Updates) -> None:
        """Take one update on the loss of equation 4."""
        options, labels = self.options, labels if self.classes else None
        one_hot = self.one_hot(labels, len(images))

        def loss() -> Loss:
            posterior = self.posterior(images, labels)
            error = squared_error(images, self.decoder(with_class(posterior.draw(), one_hot)))
            divergence = kl_divergence(posterior.mean, posterior.log_variance)
            beta = kl_weight(divergence, options.beta, options.kl_warmup, updates.done)
            terms = {"reconstruction": error.mean().detach(), "kl": divergence.mean().detach()}
            return Loss((error + beta * divergence).mean(), terms)

        updates.take("autoencoder", loss, options.clip_gradient)
