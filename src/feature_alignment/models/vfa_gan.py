"""Variational feature alignment with refiner and discriminator (§3.3, figure 3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ..core.speed.fusion import Affine
from .adversarial import discriminator_step
from .base import Batch, one_of
from .losses import Adversarial, Spread, generator_loss, perceptual_distance
from .networks import Discriminator, Refiner, orthogonal_
from .variational import Posterior
from .vfa import VFA

__all__ = ["VFAGAN"]

Fakes = Literal["prior", "reconstruction", "both"]


class VFAGAN(VFA):
    r"""Variational feature alignment whose features a refiner sharpens.

    The encoder trains as in :class:`VFA`. The refiner G trains on the detached features of
    reconstructions, against a discriminator D:

    .. math::
        \mathcal L_G &= (1 - D(G(\hat r)))^2 + \lambda \bigl(\lVert \mu(x) - \mu(G(\hat r)) \rVert^2
                        + \lVert \sigma(x) - \sigma(G(\hat r)) \rVert^2\bigr) \qquad (5) \\
        \mathcal L_D &= (1 - D(x))^2 + (-1 - D(G(\hat r)))^2 \qquad (6)

    Args:
        image_shape, latent, classes, kwargs: as for :class:`VFA`.
        refiner_filters: width of the refiner; the paper's code has 128.
        refiner_kernel: its kernel size; 3 in the paper, 9 for CIFAR-10 in its code.
        discriminator_channels, discriminator_width: as ``channels`` and ``width`` of the encoder; by default
            the encoder's own.
        discriminator: a module of your own from images to scores, shape ``(N,)``, instead.
        adversarial: ``least-squares`` (equations 5, 6), ``wasserstein`` with clipped critic weights, or
            ``wasserstein-gp`` with a gradient penalty.
        critic_clip: bound on the critic's weights, for ``wasserstein``.
        penalty_weight: weight of the gradient penalty, for ``wasserstein-gp``.
        fakes: what the discriminator sees as fake: refined features of ``prior`` draws with the batch's labels
            (the paper's code), of ``reconstruction`` (equation 6), or ``both``.
        perceptual_weight: :math:`\lambda`; the paper has 0.01 for MNIST, 0 for CIFAR-10, 1 for CelebA.
        perceptual_spread: compare ``deviation`` (the paper's code) or ``variance`` (equation 5).
        adversarial_weight: weight of the adversarial term in the refiner's loss; 1 in the paper.
        refiner_rate, discriminator_rate: their learning rates, as multiples of ``learning_rate``.
    """

    optimizers_per_step = 3
    compiled: tuple[str, ...] = (*VFA.compiled, "refiner", "discriminator")

    def __init__(
        self,
        image_shape: Sequence[int],
        latent: int = 32,
        classes: int = 0,
        refiner_filters: int = 128,
        refiner_kernel: int = 3,
        discriminator_channels: Sequence[int] | None = None,
        discriminator_width: int | None = None,
        discriminator: nn.Module | None = None,
        adversarial: Adversarial = "least-squares",
        critic_clip: float = 0.01,
        penalty_weight: float = 10.0,
        fakes: Fakes = "prior",
        perceptual_weight: float = 0.01,
        perceptual_spread: Spread = "deviation",
        adversarial_weight: float = 1.0,
        refiner_rate: float = 1.0,
        discriminator_rate: float = 1.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(image_shape, latent, classes, **kwargs)
        one_of("adversarial", adversarial, Adversarial)
        one_of("fakes", fakes, Fakes)
        one_of("perceptual_spread", perceptual_spread, Spread)
        self.refiner: Refiner = Refiner(image_shape, refiner_filters, refiner_kernel, classes).apply(orthogonal_)
        self.discriminator = discriminator or Discriminator(
            image_shape,
            discriminator_channels or self.hparams["channels"],
            discriminator_width or self.hparams["width"],
            self.hparams["activation"],
        )
        self.to(memory_format=torch.channels_last)

    def configure_optimizers(self) -> list[Optimizer]:  # noqa: D102
        return [
            *super().configure_optimizers(),
            self.adam(self.refiner.parameters(), self.hparams["refiner_rate"]),
            self.adam(self.discriminator.parameters(), self.hparams["discriminator_rate"]),
        ]

    def training_step(self, batch: Batch, batch_index: int) -> None:  # noqa: D102
        encoder, refiner, discriminator = self.scheduled_optimizers()
        images, labels = batch
        posterior, features = self.encoder_step(batch, encoder)
        one_hot = self.one_hot(labels, len(images))
        with torch.no_grad():
            head = self.composed_head(len(images))  # of the new weights, which both other networks leave as they are
        refined = self._refiner_step(posterior, features, one_hot, head, refiner)
        self._discriminator_step(images, one_hot, head, refined, discriminator)

    def _refiner_step(
        self, posterior: Posterior, features: Tensor, one_hot: Tensor | None, head: Affine | None, optimizer: Any
    ) -> Tensor:
        """Take one step on equation 5; return the refined images, detached."""
        options = self.hparams
        self.toggle_optimizer(optimizer)  # only the refiner gathers gradients
        refined: Tensor = self.refiner(features, one_hot)
        loss = (
            options["adversarial_weight"] * generator_loss(self.discriminator(refined), options["adversarial"]).mean()
        )
        if options["perceptual_weight"]:
            seen = self.posterior(refined, head)
            distance = perceptual_distance(
                posterior.mean, posterior.log_variance, seen.mean, seen.log_variance, options["perceptual_spread"]
            ).mean()
            loss = loss + options["perceptual_weight"] * distance
            self.log("perceptual", distance.detach())
        self.step(optimizer, loss)
        self.untoggle_optimizer(optimizer)
        self.log("refiner", loss.detach(), prog_bar=True)
        return refined.detach()

    def _discriminator_step(
        self, images: Tensor, one_hot: Tensor | None, head: Affine | None, refined: Tensor, optimizer: Any
    ) -> None:
        """Take one step on equation 6."""
        fakes = [] if self.hparams["fakes"] == "prior" else [refined]
        if self.hparams["fakes"] != "reconstruction":
            with torch.no_grad():
                prior = torch.randn(len(images), self.latent, dtype=images.dtype, device=images.device)
                fakes.append(self.refiner(self.feature(prior, one_hot, head), one_hot))
        discriminator_step(self, self.discriminator, optimizer, images, torch.cat(fakes))
