"""Options, loss and update of a discriminator, shared by the models that have one."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .losses import Adversarial, critic_loss, gradient_penalty
from .networks import Discriminator
from .options import ModelOptions, one_of
from .updates import Loss, Updates

__all__ = ["AdversarialOptions", "discriminator_loss", "update_discriminator"]


@dataclass(frozen=True)
class AdversarialOptions(ModelOptions):
    """Options of a model with a discriminator.

    Args:
        adversarial: ``least-squares`` (equations 5, 6), ``wasserstein`` with clipped critic weights, or
            ``wasserstein-gp`` with a gradient penalty.
        critic_clip: bound on the absolute value of the critic's weights, for ``wasserstein``.
        penalty_weight: weight of the gradient penalty, for ``wasserstein-gp``.
        discriminator_rate: learning rate of the discriminator, as a multiple of ``learning_rate``.
    """

    adversarial: Adversarial = "least-squares"
    critic_clip: float = 0.01
    penalty_weight: float = 10.0
    discriminator_rate: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("adversarial", self.adversarial, Adversarial)


def discriminator_loss(discriminator: nn.Module, options: AdversarialOptions, real: Tensor, fake: Tensor) -> Loss:
    """Return the loss of equation 6, or that of the critic of a Wasserstein GAN, a scalar.

    Args:
        discriminator: maps images to scores, shape ``(N,)``.
        options: which formulation, and the weight of its gradient penalty.
        real: images, shape ``(N, C, H, W)``.
        fake: generated images, detached, at least ``N`` of them.
    """
    if type(discriminator) is Discriminator:
        of_real, of_fake = discriminator(torch.cat([real, fake])).split([len(real), len(fake)])
    else:  # a user's own discriminator may mix the samples of a batch (batch normalisation)
        of_real, of_fake = discriminator(real), discriminator(fake)
    loss = critic_loss(of_real, of_fake, options.adversarial)
    if options.adversarial == "wasserstein-gp":
        loss = loss + options.penalty_weight * gradient_penalty(discriminator, real, fake[: len(real)])
    return Loss(loss, {"discriminator": loss.detach()})


def update_discriminator(
    discriminator: nn.Module, options: AdversarialOptions, real: Tensor, fake: Tensor, updates: Updates
) -> None:
    """Take one update on :func:`discriminator_loss`; for ``wasserstein``, clip the critic's weights afterwards."""
    updates.take("discriminator", lambda: discriminator_loss(discriminator, options, real, fake))
    if options.adversarial == "wasserstein":
        with torch.no_grad():
            for parameter in discriminator.parameters():
                parameter.clamp_(-options.critic_clip, options.critic_clip)
