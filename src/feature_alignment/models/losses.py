"""The terms of the losses (3) to (6). Each returns one value per example, shape ``(N,)``, unless stated otherwise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from ..core.pullback import vjp

__all__ = [
    "Adversarial",
    "Spread",
    "critic_loss",
    "generator_loss",
    "gradient_penalty",
    "kl_divergence",
    "perceptual_distance",
    "squared_error",
]

Adversarial = Literal["least-squares", "wasserstein", "wasserstein-gp"]
Spread = Literal["deviation", "variance"]


def squared_error(images: Tensor, others: Tensor) -> Tensor:
    r""":math:`\lVert x - \hat x \rVert_2^2` per image, summed over channels and pixels; images ``(N, C, H, W)``."""
    return (images - others).square().flatten(1).sum(1)


def kl_divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    r""":math:`D_{KL}\bigl(\mathcal N(\mu, \sigma^2) \,\Vert\, \mathcal N(0, 1)\bigr)` in nats, summed over the latent.

    .. math::
        \tfrac12 \sum_i \bigl(\mu_i^2 + \sigma_i^2 - \log \sigma_i^2 - 1\bigr)

    Equation 3 prints it with a minus sign; equation 4 has the plus sign of a penalty.

    Args:
        mean, log_variance: shape ``(N, latent)``.
    """
    return 0.5 * (mean.square() + log_variance.exp() - log_variance - 1).sum(1)


def generator_loss(scores: Tensor, kind: Adversarial = "least-squares") -> Tensor:
    r"""The refiner's adversarial term, from the discriminator's ``scores`` of refined images, shape ``(N,)``.

    Least squares, equation 5: :math:`(1 - D(G(\hat r)))^2`; Wasserstein: :math:`-D(G(\hat r))`.
    """
    return (1 - scores).square() if kind == "least-squares" else -scores


def critic_loss(real: Tensor, fake: Tensor, kind: Adversarial = "least-squares") -> Tensor:
    r"""The discriminator's loss, mean over both batches, shape ``()``.

    Least squares, equation 6: :math:`(1 - D(x))^2 + (-1 - D(G(\hat r)))^2`; Wasserstein:
    :math:`D(G(\hat r)) - D(x)`, for a critic kept Lipschitz by weight clipping or :func:`gradient_penalty`.
    """
    if kind == "least-squares":
        return (1 - real).square().mean() + (-1 - fake).square().mean()
    return fake.mean() - real.mean()


def gradient_penalty(critic: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor) -> Tensor:
    r""":math:`(\lVert \nabla D(\tilde x) \rVert_2 - 1)^2`, mean over random interpolates of real and fake images.

    Returns a scalar, shape ``()``. Gulrajani et al., *Improved training of Wasserstein GANs*, 2017.
    """
    mix = torch.rand(len(real), *[1] * (real.ndim - 1), device=real.device, dtype=real.dtype)
    scores, pull_back = vjp(critic, torch.lerp(fake.detach(), real, mix))
    norms: Tensor = pull_back(torch.ones_like(scores)).flatten(1).norm(dim=1)
    return (norms - 1).square().mean()


def perceptual_distance(
    mean: Tensor,
    log_variance: Tensor,
    other_mean: Tensor,
    other_log_variance: Tensor,
    spread: Spread = "deviation",
) -> Tensor:
    r""":math:`\lVert \mu - \mu' \rVert^2 + \lVert \sigma - \sigma' \rVert^2`, the perceptual term of equation 5.

    Args:
        mean, log_variance: posterior of the images, shape ``(N, latent)``.
        other_mean, other_log_variance: posterior of the refined images, same shape.
        spread: compare standard deviations (the paper's code) or variances (equation 5 as printed).
    """
    power = 0.5 if spread == "deviation" else 1.0
    difference = (power * log_variance).exp() - (power * other_log_variance).exp()
    return (mean - other_mean).square().sum(1) + difference.square().sum(1)
