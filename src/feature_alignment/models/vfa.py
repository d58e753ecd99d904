"""Variational feature alignment (§3.2): a variational autoencoder whose decoder is its encoder, run backwards."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, cast

import torch
from torch import Tensor, nn

from ..core.checks import Network
from .fa import FA
from .fa_options import FAOptions
from .inference import inference
from .losses import kl_divergence
from .networks import orthogonal_
from .options import at_least, one_of
from .updates import Loss, Updates
from .variational import Beta, Posterior, VariationalOptions, kl_weight

__all__ = ["VFA", "VFAOptions"]

StartBranch = Literal["mean+deviation", "mean"]
ClassBranch = Literal["scores", "probabilities"]
#: Learned weights change so many times as fast as other parameters: they have orders of magnitude to go.
WEIGHT_RATE = 10.0


@dataclass(frozen=True)
class VFAOptions(FAOptions, VariationalOptions):
    r"""Options of :class:`VFA`.

    Args:
        start_branch: output of the network that is aligned with the latent: ``mean+deviation``,
            :math:`\mu + \sigma` (the paper's code), or ``mean``, :math:`\mu`.
        learn_weights: train a weight :math:`\lambda_i` of each latent in the aligned distance,
            :math:`\tfrac12 \sum_i \lambda_i (\mu_i(r) - z_i)^2`. The prior fixes the scale of the latents: where all
            count alike, a linear encoder cannot be its own best decoder, which in probabilistic principal component
            analysis weights a latent by the variance that it explains (Tipping and Bishop 1999).
        class_branch: output of the class head that is aligned with the one-hot label: ``scores`` (the paper's code), or
            ``probabilities``, their softmax. Cross-entropy brings the probabilities of an image near its label, not the
            scores: with ``probabilities`` an image stays where it is under the flow towards its own latent and label.
        class_prior: learn mean and deviation of the latents of each class, from 0 and 1 on: the prior of a class is
            :math:`p(z|y) = \mathcal N(m_y, s_y^2)`. Latents are given in its units, :math:`(z - m_y) / s_y`, so that
            N(0, I) draws each class where it is. What all images of a class share is then no part of the KL divergence,
            as in a conditional VAE, whose encoder is given the class. Nothing without classes.
        class_weight: weight of the class branch in the aligned distance.
        cross_entropy_weight: weight of a cross-entropy loss on the images' class scores.
    """

    beta: float | Beta = "uniform"
    start_branch: StartBranch = "mean+deviation"
    learn_weights: bool = False
    class_branch: ClassBranch = "scores"
    class_prior: bool = False
    class_weight: float = 1.0
    cross_entropy_weight: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("start_branch", self.start_branch, StartBranch)
        one_of("class_branch", self.class_branch, ClassBranch)
        at_least(0, class_weight=self.class_weight, cross_entropy_weight=self.cross_entropy_weight)


class VFA(FA):
    r"""Variational feature alignment.

    The encoder maps every image to a posterior :math:`\mathcal N(\mu, \sigma^2)`; the reconstruction is the
    feature of a draw :math:`z` from it. Training minimises, per image,

    .. math::
        \mathcal L_E = \lVert x - \hat r \rVert^2 + \beta \, D_{KL}(q(z|x) \Vert p(z)) \qquad (4)

    A conditional model (``classes`` > 0) has a linear class head beside :math:`\mu` and
    :math:`\log \sigma^2`; its scores, or their softmax, are part of the aligned output, and their target is the
    one-hot label, so the label steers the feature.

    Args:
        image_shape, latent, encoder, stages: as for :class:`FA`.
        options: see :class:`VFAOptions`.

    Raises:
        ValueError: an option out of range, named.
    """

    Options: ClassVar[type[Any]] = VFAOptions
    options: VFAOptions
    has_prior = True
    decodes_class = True

    def __init__(
        self,
        image_shape: Sequence[int],
        latent: int = 32,
        *,
        encoder: nn.Module | None = None,
        stages: Sequence[nn.Module] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(image_shape, latent, encoder=encoder, stages=stages, **options)
        width, classes = self.options.width, self.options.classes
        self.log_variance = nn.Linear(width, latent).apply(orthogonal_)
        self.scores = nn.Linear(width, classes).apply(orthogonal_) if classes else None
        #: Logarithms of the learned weights of the latents over :data:`WEIGHT_RATE`, shape ``(latent,)``.
        self.weight_exponents = nn.Parameter(torch.zeros(latent)) if self.options.learn_weights else None
        self.encodes_class = bool(classes) and self.options.class_prior
        #: Mean and logarithm of the deviation of each class's prior, shape ``(classes, latent)``.
        self.class_means, self.class_log_deviations = (
            nn.Parameter(torch.zeros(classes, latent)) if self.encodes_class else None for _ in range(2)
        )

    # --- the protocol -----------------------------------------------------------------------------------

    @inference
    def encode(self, images: Tensor, labels: Tensor | None = None) -> Tensor:  # noqa: D102
        latent = super().encode(images)
        if not self.encodes_class:
            return latent
        one_hot = self.one_hot(self.infer_labels(images) if labels is None else labels, len(images))
        mean, log_deviation = self._prior_of(cast(Tensor, one_hot))
        return (latent - mean) * (-log_deviation).exp()

    @inference
    def sampled_latents(self, images: Tensor, labels: Tensor | None = None) -> Tensor:  # noqa: D102
        return self.posterior(images, labels).draw()

    def posterior(self, images: Tensor, labels: Tensor | None = None) -> Posterior:
        """Return mean, log-variance and class scores of each image, differentiable.

        Args:
            images: in [0, 1], shape ``(N, C, H, W)``.
            labels: their classes, of which only a model with class priors makes use; inferred if none are given.
        """
        found = self.snapshot(len(images)).posterior(images)
        if self.encodes_class and labels is None:
            labels = self.infer_labels(images)
        return self.in_units_of_prior(found, self.one_hot(labels, len(images)) if self.encodes_class else None)

    @inference
    def infer_labels(self, images: Tensor) -> Tensor:
        """Return the class of the highest score if the class head was trained, else the one that reconstructs best."""
        self.check_classes()
        self.check_images(images)
        if self.options.cross_entropy_weight:
            return self.snapshot(len(images)).posterior(images).scores.argmax(1)
        return super().infer_labels(images)

    # --- the network ------------------------------------------------------------------------------------

    def heads(self) -> list[nn.Linear]:  # noqa: D102
        return [self.mean, self.log_variance, *([] if self.scores is None else [self.scores])]

    def split(self, outputs: Tensor) -> Posterior:
        """Split the concatenated outputs of the heads, shape ``(N, 2 latent + classes)``, into a posterior."""
        mean, log_variance, scores = outputs.split([self.latent, self.latent, self.classes], 1)
        return Posterior.bounded(mean, log_variance, scores, self.options.max_log_variance)

    def aligned_parts(self) -> list[Network]:  # noqa: D102
        return [self._aligned]

    def _aligned(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        at = self.split(outputs)
        latent = at.mean + at.deviation if self.options.start_branch == "mean+deviation" else at.mean
        classes = at.scores.softmax(1) if self.options.class_branch == "probabilities" else at.scores
        return self._weighted(latent, classes)

    def target(self, latent: Tensor, one_hot: Tensor | None = None) -> tuple[Tensor, Tensor]:  # noqa: D102
        if one_hot is None:
            count = latent.shape[0]
            one_hot = cast(Tensor, self.one_hot(None, count)) if self.classes else latent.new_empty(count, 0)
        if self.encodes_class:
            mean, log_deviation = self._prior_of(one_hot)
            latent = mean + log_deviation.exp() * latent
        return self._weighted(latent, one_hot)

    def in_units_of_prior(self, posterior: Posterior, one_hot: Tensor | None) -> Posterior:
        r"""Return the posterior of :math:`(z - m_y) / s_y`; the same one in a model without class priors."""
        if not self.encodes_class:
            return posterior
        mean, log_deviation = self._prior_of(cast(Tensor, one_hot))
        return Posterior(
            (posterior.mean - mean) * (-log_deviation).exp(),
            posterior.log_variance - 2 * log_deviation,
            posterior.scores,
        )

    def _prior_of(self, one_hot: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log-deviation of each one's class, or of its mixture of classes, whatever its emphasis."""
        shares = one_hot / one_hot.sum(1, keepdim=True).clamp(min=torch.finfo(one_hot.dtype).tiny)
        return shares @ cast(Tensor, self.class_means), shares @ cast(Tensor, self.class_log_deviations)

    def _weighted(self, latent: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
        # A weight w on a squared distance is a factor sqrt(w) on both of its sides.
        if self.weight_exponents is not None:
            latent = (0.5 * WEIGHT_RATE * self.weight_exponents).exp() * latent
        return latent, math.sqrt(self.options.class_weight) * classes

    # --- training ---------------------------------------------------------------------------------------

    def flow_parameters(self) -> list[nn.Parameter]:  # noqa: D102
        learned = (self.weight_exponents, self.class_means, self.class_log_deviations)
        return [*super().flow_parameters(), *(each for each in learned if each is not None)]

    def training_step(self, images: Tensor, labels: Tensor | None, updates: Updates) -> None:
        """Take one update on the loss of equation 4."""
        self.encoder_update(images, labels, updates)

    def encoder_update(self, images: Tensor, labels: Tensor | None, updates: Updates) -> tuple[Posterior, Tensor]:
        """Take one update on the loss of equation 4; return the posterior and the features, detached."""
        images = self.prepare(images, updates)
        kept: tuple[Posterior, Tensor] = updates.take(
            "encoder", lambda: self.encoder_loss(images, labels, updates.done), self.options.clip_gradient
        )
        return kept

    def encoder_loss(self, images: Tensor, labels: Tensor | None, updates_done: int = 0) -> Loss:
        """Return the loss of equation 4 plus a weighted cross-entropy; ``kept`` are posterior and features."""
        options, network = self.options, self.snapshot(len(images))
        one_hot = self.one_hot(labels, len(images))
        posterior = self.in_units_of_prior(network.posterior(images), one_hot)
        target = self.target(posterior.draw(), one_hot)
        reconstruction, error, features = self.reconstruction(network, images, target, updates_done)
        divergence = kl_divergence(posterior.mean, posterior.log_variance)
        beta = kl_weight(divergence, options.beta, options.kl_warmup, updates_done)
        loss = reconstruction + (beta * divergence).mean()
        terms = {"reconstruction": error.detach(), "kl": divergence.mean().detach()}
        if labels is not None and options.cross_entropy_weight:
            entropy = nn.functional.cross_entropy(posterior.scores, labels.long())
            loss = loss + options.cross_entropy_weight * entropy
            terms["cross_entropy"] = entropy.detach()
        return Loss(loss, terms, (posterior.detach(), features.detach()))
