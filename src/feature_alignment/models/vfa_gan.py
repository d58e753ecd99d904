"""Variational feature alignment with refiner and discriminator (§3.3, figure 3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ..core.draws import standard_normal
from .adversarial import AdversarialOptions, adversarial_loss, update_discriminator
from .averaging import averaged, update_average
from .losses import Spread, perceptual_distance
from .networks import Discriminator, Refiner, orthogonal_
from .options import above_zero, at_least, one_of, sizes
from .residual_refiner import ResidualRefiner
from .snapshot import Snapshot
from .updates import Loss, Updates
from .variational import Posterior
from .vfa import VFA, VFAOptions

__all__ = ["VFAGAN", "VFAGANOptions"]

Fakes = Literal["prior", "reconstruction"]
Kind = Literal["plain", "residual"]


@dataclass(frozen=True)
class VFAGANOptions(VFAOptions, AdversarialOptions):
    r"""Options of :class:`VFAGAN`.

    Args:
        refiner: ``plain``, the paper's three convolutions with batch normalisation, or ``residual``, which corrects the
            feature and begins as the identity, see :class:`feature_alignment.models.residual_refiner.ResidualRefiner`.
        refiner_filters: filters of the refiner's hidden layers; the paper's code has 128.
        refiner_kernel: kernel size of the refiner, odd; 3 in the paper, 9 for CIFAR-10 in its code.
        refiner_rate: learning rate of the refiner, as a multiple of ``learning_rate``.
        discriminator_channels, discriminator_width: ``channels`` and ``width`` of the discriminator; by default
            those of the encoder.
        fakes: images that the discriminator is trained to reject: refined features of draws from the ``prior``,
            given the batch's labels (the paper's code), or of each ``reconstruction`` (equation 6).
        perceptual_weight: :math:`\lambda`; the paper has 0.01 for MNIST, 0 for CIFAR-10, 1 for CelebA.
        perceptual_spread: compare the standard ``deviation`` (the paper's code) or the ``variance`` (equation 5).
        adversarial_weight: weight of the adversarial term in the refiner's loss; 1 in the paper.
    """

    refiner: Kind = "plain"
    refiner_filters: int = 128
    refiner_kernel: int = 3
    refiner_rate: float = 1.0
    discriminator_channels: Sequence[int] | None = None
    discriminator_width: int | None = None
    fakes: Fakes = "prior"
    perceptual_weight: float = 0.01
    perceptual_spread: Spread = "deviation"
    adversarial_weight: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("refiner", self.refiner, Kind)
        one_of("fakes", self.fakes, Fakes)
        one_of("perceptual_spread", self.perceptual_spread, Spread)
        sizes(
            refiner_filters=self.refiner_filters,
            discriminator_channels=self.discriminator_channels,
            discriminator_width=self.discriminator_width,
        )
        if self.refiner_kernel < 1 or self.refiner_kernel % 2 == 0:
            raise ValueError(f"refiner_kernel: expected an odd number of at least 1, got {self.refiner_kernel}")
        above_zero(refiner_rate=self.refiner_rate)
        at_least(0, perceptual_weight=self.perceptual_weight, adversarial_weight=self.adversarial_weight)


class VFAGAN(VFA):
    r"""Variational feature alignment with a refiner that sharpens the features.

    The encoder is trained as in :class:`VFA`. The refiner G is trained on the detached features of
    reconstructions, against a discriminator D:

    .. math::
        \mathcal L_G &= (1 - D(G(\hat r)))^2 + \lambda \bigl(\lVert \mu(x) - \mu(G(\hat r)) \rVert^2
                        + \lVert \sigma(x) - \sigma(G(\hat r)) \rVert^2\bigr) \qquad (5) \\
        \mathcal L_D &= (1 - D(x))^2 + (-1 - D(G(\hat r)))^2 \qquad (6)

    Args:
        image_shape, latent, encoder, stages: as for :class:`VFA`.
        discriminator: a module of your own from images to scores, shape ``(N,)``, instead of the encoder's
            architecture with one output.
        options: see :class:`VFAGANOptions`.

    Raises:
        ValueError: an option out of range, named.
    """

    Options: ClassVar[type[Any]] = VFAGANOptions
    options: VFAGANOptions
    compiled: ClassVar[tuple[str, ...]] = (*VFA.compiled, "refiner", "discriminator")

    def __init__(
        self,
        image_shape: Sequence[int],
        latent: int = 32,
        *,
        encoder: nn.Module | None = None,
        stages: Sequence[nn.Module] | None = None,
        discriminator: nn.Module | None = None,
        **options: Any,
    ) -> None:
        super().__init__(image_shape, latent, encoder=encoder, stages=stages, **options)
        asked = self.options
        shape = (image_shape, asked.refiner_filters, asked.refiner_kernel, asked.classes)
        refiner = Refiner(*shape).apply(orthogonal_) if asked.refiner == "plain" else ResidualRefiner(*shape)
        self.refiner: nn.Module = averaged(refiner, asked.average_weights)
        channels, width = asked.discriminator_channels or asked.channels, asked.discriminator_width or asked.width
        self.discriminator = discriminator or Discriminator(
            image_shape,
            channels,
            width,
            asked.activation,
            asked.activate_width,
            asked.classes if asked.projection else 0,
        )
        self.to(memory_format=torch.channels_last)

    def optimizers(self) -> dict[str, Optimizer]:  # noqa: D102
        return {
            **super().optimizers(),
            "refiner": self.adam(self.refiner.parameters(), self.options.refiner_rate),
            "discriminator": self.adam(self.discriminator.parameters(), self.options.discriminator_rate),
        }

    def training_step(self, images: Tensor, labels: Tensor | None, updates: Updates) -> None:
        """Take one update of the encoder (equation 4), the refiner (5) and the discriminator (6), in this order."""
        posterior, features = self.encoder_update(images, labels, updates)
        batch = _Batch(images, features, self.one_hot(labels, len(images)))
        with torch.no_grad():
            network = self.snapshot(len(images))  # after the encoder's update; the other updates do not change it
        # Early perceptual distances can be huge, and Adam's second moment would remember them to the end.
        refined: Tensor = updates.take(
            "refiner", lambda: self.refiner_loss(batch, posterior, network), clip=self.options.clip_gradient
        )
        update_average(self.refiner)
        with torch.no_grad():
            # The refiner's update comes between: the paper's code draws afterwards.
            fakes = refined if self.options.fakes == "reconstruction" else self._drawn(batch, network)
        given = batch.one_hot if self.options.projection else None
        update_discriminator(self.discriminator, self.options, images, fakes, updates, given)

    def refiner_loss(self, batch: _Batch, posterior: Posterior, network: Snapshot) -> Loss:
        """Return the loss of equation 5; ``kept`` are the refined images."""
        options = self.options
        refined: Tensor = self.refiner(batch.features, batch.one_hot)
        given = batch.one_hot if options.projection else None
        adversarial = adversarial_loss(self.discriminator, options, refined, batch.images, given)
        loss = options.adversarial_weight * adversarial
        terms = {}
        if options.perceptual_weight:
            seen = self.in_units_of_prior(network.posterior(refined), batch.one_hot)
            distance = perceptual_distance(
                posterior.mean, posterior.log_variance, seen.mean, seen.log_variance, options.perceptual_spread
            ).mean()
            loss = loss + options.perceptual_weight * distance
            terms["perceptual"] = distance.detach()
        return Loss(loss, {"refiner": loss.detach(), **terms}, refined.detach())

    def _drawn(self, batch: _Batch, network: Snapshot) -> Tensor:
        """Return refined features of as many draws from the prior as there are images, given the same classes."""
        refined: Tensor = self.refiner(self._from_prior(batch.images, batch.one_hot, network), batch.one_hot)
        return refined

    def _from_prior(self, images: Tensor, one_hot: Tensor | None, network: Snapshot) -> Tensor:
        """Return features of as many draws from the prior as there are ``images``, given the same classes."""
        prior = standard_normal(len(images), self.latent, images)
        return network.feature(prior, one_hot)


class _Batch(NamedTuple):
    """What the refiner is trained on."""

    images: Tensor
    features: Tensor  #: of the images, detached
    one_hot: Tensor | None
