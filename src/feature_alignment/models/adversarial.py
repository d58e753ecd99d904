"""What the models with a discriminator share: its training step, in each formulation."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .base import Model
from .losses import critic_loss, gradient_penalty
from .networks import Discriminator

__all__ = ["discriminator_step"]


def discriminator_step(model: Model, discriminator: nn.Module, optimizer: Any, real: Tensor, fake: Tensor) -> None:
    """Let ``discriminator`` take one step on equation 6, or as the critic of a Wasserstein GAN.

    Args:
        model: has the options ``adversarial``, ``penalty_weight`` and ``critic_clip``, see :class:`VFAGAN`.
        discriminator: from images to scores.
        optimizer: of its parameters.
        real: images, shape ``(N, C, H, W)``.
        fake: generated images, detached, ``N`` or more.
    """
    options = model.hparams
    if type(discriminator) is Discriminator:
        of_real, of_fake = discriminator(torch.cat([real, fake])).split([len(real), len(fake)])
    else:  # in one of the user's own, samples of a batch may see each other
        of_real, of_fake = discriminator(real), discriminator(fake)
    loss = critic_loss(of_real, of_fake, options["adversarial"])
    if options["adversarial"] == "wasserstein-gp":
        loss = loss + options["penalty_weight"] * gradient_penalty(discriminator, real, fake[: len(real)])
    model.step(optimizer, loss)
    if options["adversarial"] == "wasserstein":
        with torch.no_grad():
            for parameter in discriminator.parameters():
                parameter.clamp_(-options["critic_clip"], options["critic_clip"])
    model.log("discriminator", loss.detach(), prog_bar=True)
