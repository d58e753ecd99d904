"""The terms of the losses (3) to (6). Each returns one value per example, shape ``(N,)``, unless stated otherwise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from ..core.draws import draw
from ..core.pullback import vjp

__all__ = [
    "Adversarial",
    "Spread",
    "critic_loss",
    "generator_loss",
    "gradient_penalty",
    "kl_divergence",
    "perceptual_distance",
    "relativistic_loss",
    "squared_error",
    "squared_gradient",
]

Adversarial = Literal["least-squares", "wasserstein", "wasserstein-gp", "relativistic"]
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


def generator_loss(scores: Tensor, kind: Adversarial = "least-squares", real: Tensor | None = None) -> Tensor:
    r"""The adversarial term of a generator or refiner, shape ``(N,)``.

    Least squares, equation 5: :math:`(1 - D(G(\hat r)))^2`; Wasserstein: :math:`-D(G(\hat r))`; relativistic:
    :math:`\operatorname{softplus}(D(x) - D(G(\hat r)))`, see :func:`relativistic_loss`.

    Args:
        scores: the discriminator's, of generated images, shape ``(N,)``.
        kind: of the loss.
        real: for ``relativistic``, the scores of real images, see :func:`relativistic_loss`.
    """
    if kind == "relativistic":
        if real is None:
            raise ValueError("real: the relativistic loss compares with the scores of real images")
        return relativistic_loss(scores, real)
    return (1 - scores).square() if kind == "least-squares" else -scores


def critic_loss(real: Tensor, fake: Tensor, kind: Adversarial = "least-squares") -> Tensor:
    r"""The discriminator's loss, mean over both batches, shape ``()``.

    Least squares, equation 6: :math:`(1 - D(x))^2 + (-1 - D(G(\hat r)))^2`; Wasserstein:
    :math:`D(G(\hat r)) - D(x)`, for a critic kept Lipschitz by weight clipping or :func:`gradient_penalty`;
    relativistic: :math:`\operatorname{softplus}(D(G(\hat r)) - D(x))`.
    """
    if kind == "least-squares":
        return (1 - real).square().mean() + (-1 - fake).square().mean()
    if kind == "relativistic":
        return relativistic_loss(real, fake).mean()
    return fake.mean() - real.mean()


def relativistic_loss(scores: Tensor, rivals: Tensor) -> Tensor:
    r""":math:`\operatorname{softplus}(D(y) - D(x))`: how far the images x fall short of their rivals y, in pairs.

    The discriminator minimises it for real x and generated y, the generator for generated x and real y. Huang et al.,
    *The GAN is dead; long live the GAN!*, 2024 (arXiv 2501.05441), with :func:`squared_gradient` of both.

    Args:
        scores: of the images x, shape ``(N,)``.
        rivals: of the images y, shape ``(N,)``.

    Returns:
        One value per pair, shape ``(N,)``.

    Example:
        >>> relativistic_loss(torch.zeros(2), torch.tensor([0.0, 9.0]))
        tensor([0.6931, 9.0001])
    """
    return functional.softplus(rivals - scores)


def gradient_penalty(critic: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor) -> Tensor:
    r""":math:`(\lVert \nabla D(\tilde x) \rVert_2 - 1)^2`, mean over random interpolates of real and fake images.

    Returns a scalar, shape ``()``. Gulrajani et al., *Improved training of Wasserstein GANs*, 2017.
    """
    ones = [1] * (real.ndim - 1)
    mix = draw(lambda n: torch.rand(n, *ones, device=real.device, dtype=real.dtype), len(real))
    # Under autocast generated images may be in half precision.
    scores, pull_back = vjp(critic, torch.lerp(fake.detach().to(real), real, mix))
    norms: Tensor = pull_back(torch.ones_like(scores)).flatten(1).norm(dim=1)
    return (norms - 1).square().mean()


def squared_gradient(critic: Callable[[Tensor], Tensor], images: Tensor) -> tuple[Tensor, Tensor]:
    r"""Scores, and :math:`\lVert \nabla D(x) \rVert^2` per image, differentiable; shape ``(N,)`` each.

    The mean over real images is the penalty R1, that over generated ones R2 (Mescheder et al., *Which training
    methods for GANs do actually converge?*, 2018).

    Args:
        critic: :math:`D`, from images to scores, shape ``(N,)``; it treats the samples of a batch independently.
        images: shape ``(N, C, H, W)``.
    """
    scores, pull_back = vjp(critic, images.detach())
    return scores, pull_back(torch.ones_like(scores)).square().flatten(1).sum(1)


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
