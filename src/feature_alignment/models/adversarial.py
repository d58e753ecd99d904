"""Options, loss and update of a discriminator, shared by the models that have one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn

from .augmentation import AUGMENTATIONS, augment
from .losses import Adversarial, critic_loss, generator_loss, gradient_penalty, squared_gradient
from .networks import Discriminator
from .options import ModelOptions, above_zero, at_least, one_of
from .updates import Loss, Updates

__all__ = ["AdversarialOptions", "adversarial_loss", "discriminator_loss", "update_discriminator"]

#: Weight of the penalty on the discriminator's gradient, by kind of loss, where none is given; that of
#: ``relativistic`` is for images of so many values, and grows with their number.
PENALTIES = {"wasserstein-gp": 10.0, "relativistic": 1.0}
VALUES = 28 * 28


@dataclass(frozen=True)
class AdversarialOptions(ModelOptions):
    r"""Options of a model with a discriminator.

    Args:
        adversarial: ``least-squares`` (equations 5, 6), ``wasserstein`` with clipped critic weights,
            ``wasserstein-gp`` with a gradient penalty, or ``relativistic`` on pairs of a real and a generated image
            (R3GAN) with the gradient penalties R1 and R2.
        critic_clip: bound on the absolute value of the critic's weights that are trained, for ``wasserstein``.
        penalty_weight: weight of the gradient penalty: for ``wasserstein-gp`` by default 10; for ``relativistic``
            :math:`\gamma` in :math:`\tfrac\gamma2 (\lVert\nabla D(x)\rVert^2 + \lVert\nabla D(y)\rVert^2)`, by
            default :math:`CHW / 784`, 1 for digits: a discriminator that tells images of more values apart as well
            has as much smaller a squared gradient; without effect on the other two.
        discriminator_rate: learning rate of the discriminator, as a multiple of ``learning_rate``.
        augment: differentiable augmentations of all images that the discriminator scores, ``translation`` and
            ``cutout``; none by default.
        projection: give the discriminator of a conditional model the class, by projection; the paper's is not given it.
        average_weights: decay, below 1, of a moving average of the generator's or refiner's weights that takes their
            place outside training, such as 0.995; 0 for none.
    """

    adversarial: Adversarial = "least-squares"
    critic_clip: float = 0.01
    penalty_weight: float | None = None
    discriminator_rate: float = 1.0
    augment: Sequence[str] = ()
    projection: bool = False
    average_weights: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("adversarial", self.adversarial, Adversarial)
        at_least(0, penalty_weight=self.penalty_weight or 0.0)
        above_zero(critic_clip=self.critic_clip, discriminator_rate=self.discriminator_rate)
        if isinstance(self.augment, str):  # the name of one
            object.__setattr__(self, "augment", (self.augment,))
        for name in self.augment:
            if name not in AUGMENTATIONS:
                raise ValueError(f"augment: expected any of {', '.join(AUGMENTATIONS)}, got {name!r}")
        if not 0 <= self.average_weights < 1:
            raise ValueError(f"average_weights: expected at least 0 and below 1, got {self.average_weights}")

    def penalty(self, images: Tensor) -> float:
        """Return the weight of the gradient penalty for images ``(N, C, H, W)``, 0 for a loss without one."""
        default = PENALTIES.get(self.adversarial)
        if default is None:
            return 0.0
        if self.penalty_weight is not None:
            return self.penalty_weight
        return default * images[0].numel() / VALUES if self.adversarial == "relativistic" else default


Scores = Callable[[Tensor], Tensor]


def adversarial_loss(
    discriminator: nn.Module,
    options: AdversarialOptions,
    fake: Tensor,
    real: Tensor | None = None,
    one_hot: Tensor | None = None,
) -> Tensor:
    """Return the adversarial term of a generator's or refiner's loss, the mean over its images.

    Args:
        discriminator: see :func:`discriminator_loss`.
        options: which loss, and how images are augmented.
        fake: generated images, shape ``(N, C, H, W)``, with their graph.
        real: images that ``relativistic`` pairs them with, shape ``(N, C, H, W)``.
        one_hot: the class of each real image, shape ``(N, classes)``, for a discriminator that is given it.
    """
    fakes = _given(discriminator, one_hot, len(fake))(augment(fake, options.augment))
    if options.adversarial != "relativistic":
        return generator_loss(fakes, options.adversarial).mean()
    assert real is not None
    reals = _given(discriminator, one_hot, len(real))(augment(real, options.augment))
    return generator_loss(fakes, options.adversarial, reals).mean()


def discriminator_loss(
    discriminator: nn.Module,
    options: AdversarialOptions,
    real: Tensor,
    fake: Tensor,
    one_hot: Tensor | None = None,
) -> Loss:
    r"""Return the loss of equation 6, of the critic of a Wasserstein GAN, or the relativistic one, a scalar.

    The latter, for pairs of a real image x and a generated one y, is R3GAN's

    .. math::
        \operatorname{softplus}(D(y) - D(x)) + \tfrac\gamma2 (\lVert\nabla D(x)\rVert^2 + \lVert\nabla D(y)\rVert^2)

    with gradients with respect to the images as the discriminator sees them, augmented.

    Args:
        discriminator: maps images to scores, shape ``(N,)``.
        options: which formulation, the weight of its gradient penalty, and how images are augmented.
        real: images, shape ``(N, C, H, W)``.
        fake: as many generated images, detached.
        one_hot: the class of each real image, and of each that is generated from it, shape ``(N, classes)``; passed
            on to the discriminator.
    """
    real, fake = augment(real, options.augment), augment(fake, options.augment)
    if options.adversarial == "relativistic":
        loss = _relativistic(discriminator, options, real, fake, one_hot)
    else:
        of_real, of_fake = _scores(discriminator, real, fake, one_hot)
        loss = critic_loss(of_real, of_fake, options.adversarial)
    if options.adversarial == "wasserstein-gp":
        critic = _given(discriminator, one_hot, len(real))
        loss = loss + options.penalty(real) * gradient_penalty(critic, real, fake)
    return Loss(loss, {"discriminator": loss.detach()})


def update_discriminator(
    discriminator: nn.Module,
    options: AdversarialOptions,
    real: Tensor,
    fake: Tensor,
    updates: Updates,
    one_hot: Tensor | None = None,
) -> None:
    """Take one update on :func:`discriminator_loss`; for ``wasserstein``, clip the critic's weights afterwards."""
    updates.take("discriminator", lambda: discriminator_loss(discriminator, options, real, fake, one_hot))
    if options.adversarial == "wasserstein":
        with torch.no_grad():
            for parameter in discriminator.parameters():
                if parameter.requires_grad:
                    parameter.clamp_(-options.critic_clip, options.critic_clip)


def _relativistic(
    discriminator: nn.Module, options: AdversarialOptions, real: Tensor, fake: Tensor, one_hot: Tensor | None
) -> Tensor:
    of_real, real_slopes = squared_gradient(_given(discriminator, one_hot, len(real)), real)
    of_fake, fake_slopes = squared_gradient(_given(discriminator, one_hot, len(fake)), fake)
    return critic_loss(of_real, of_fake, "relativistic") + options.penalty(real) / 2 * (
        real_slopes.mean() + fake_slopes.mean()
    )


def _scores(discriminator: nn.Module, real: Tensor, fake: Tensor, one_hot: Tensor | None) -> tuple[Tensor, Tensor]:
    if type(discriminator) is Discriminator:
        count = len(real) + len(fake)
        both = _given(discriminator, one_hot, count)(torch.cat([real, fake]))
        return both[: len(real)], both[len(real) :]
    # A user's own discriminator may mix the samples of a batch (batch normalisation).
    return tuple(_given(discriminator, one_hot, len(each))(each) for each in (real, fake))  # type: ignore[return-value]


def _given(discriminator: nn.Module, one_hot: Tensor | None, count: int) -> Scores:
    """Return the discriminator of ``count`` images, whose classes repeat those of ``one_hot``: real, then generated."""
    if one_hot is None:
        return discriminator
    one_hot = one_hot.repeat(count // len(one_hot), 1)
    if type(discriminator) is Discriminator:
        return cast(Scores, discriminator.chain(one_hot))  # whose vector-Jacobian products are known
    return partial(discriminator, one_hot=one_hot)
