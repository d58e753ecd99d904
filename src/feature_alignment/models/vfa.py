"""Variational feature alignment (§3.2): an autoencoder whose decoder is the encoder, run backwards."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

from torch import Tensor, nn

from ..core.pullback.rules import Chain
from ..core.speed.fusion import Affine
from .base import Batch, inference, one_of
from .fa import FA
from .losses import kl_divergence, squared_error
from .networks import orthogonal_
from .variational import Beta, Posterior, check_beta, kl_weight

__all__ = ["VFA"]

StartBranch = Literal["mean+deviation", "mean"]


class VFA(FA):
    r"""Variational feature alignment.

    The encoder gives every image a posterior :math:`\mathcal N(\mu, \sigma^2)`; the feature of a draw
    :math:`z` from it is the reconstruction. Training minimises, per image,

    .. math::
        \mathcal L_E = \lVert x - \hat r \rVert^2 + \beta \, D_{KL}(q(z|x) \Vert p(z)) \qquad (4)

    A conditional model (``classes`` > 0) has a linear class head beside :math:`\mu` and
    :math:`\log \sigma^2`; the scores are part of the aligned output, and their target is the one-hot label,
    so the label steers the feature.

    Args:
        image_shape: ``(C, H, W)``, square.
        latent: size of the latent vector.
        classes: number of classes, 0 for an unconditional model.
        width: size of the encoder's output.
        start_branch: what the start's branch aligns: ``mean+deviation`` (the paper's code) or ``mean``.
        beta: weight of the KL divergence: a number, or ``uniform`` for a draw from U(0, 1) per example and step.
        kl_warmup: number of steps over which that weight grows linearly from 0.
        class_weight: weight of the class scores in the aligned distance.
        cross_entropy_weight: weight of a cross-entropy on the class scores of the images.
        kwargs: as for :class:`FA`.

    Raises:
        ValueError: an option out of range, named.
    """

    compiled: tuple[str, ...] = ("posterior", "feature")

    def __init__(
        self,
        image_shape: Sequence[int],
        latent: int = 32,
        classes: int = 0,
        width: int = 4096,
        start_branch: StartBranch = "mean+deviation",
        beta: float | Beta = "uniform",
        kl_warmup: int = 0,
        class_weight: float = 1.0,
        cross_entropy_weight: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(image_shape, latent, width=width, classes=classes, **kwargs)
        one_of("start_branch", start_branch, StartBranch)
        for name, value in (("class_weight", class_weight), ("cross_entropy_weight", cross_entropy_weight)):
            if value < 0:
                raise ValueError(f"{name}: expected at least 0, got {value}")
        check_beta(beta)
        self.latent_statistics = None  # the prior is N(0, I)
        self.log_variance = nn.Linear(width, latent).apply(orthogonal_)
        self.scores = nn.Linear(width, classes).apply(orthogonal_) if classes else None

    # --- the protocol -----------------------------------------------------------------------------------

    def posterior(self, images: Tensor, head: Affine | None = None) -> Posterior:
        """Return mean, log-variance and class scores of each image; by their ``head`` if it is given."""
        return self._split(self.outputs(images, head))

    def _split(self, outputs: Tensor) -> Posterior:
        return Posterior(*outputs.split([self.latent, self.latent, self.classes], 1))

    def heads(self) -> list[nn.Linear]:  # noqa: D102
        return [self.mean, self.log_variance, *([] if self.scores is None else [self.scores])]

    @inference
    def infer_labels(self, images: Tensor) -> Tensor:
        """Return the class of the highest score if the class head learned to tell, else the one that explains best."""
        self.check_images(images)
        if self.hparams["cross_entropy_weight"]:
            return self.posterior(images).scores.argmax(1)
        return super().infer_labels(images)

    def network(self, head: Affine | None = None) -> Chain:  # noqa: D102
        return Chain([*self._layers(head), self._aligned])

    def _aligned(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        at = self._split(outputs)
        latent = at.mean + at.deviation if self.hparams["start_branch"] == "mean+deviation" else at.mean
        # A weight w on a squared distance is a factor sqrt(w) on both of its sides.
        return latent, math.sqrt(self.hparams["class_weight"]) * at.scores

    def target(self, latent: Tensor, one_hot: Tensor | None = None) -> tuple[Tensor, Tensor]:  # noqa: D102
        weight = math.sqrt(self.hparams["class_weight"])
        return latent, latent.new_empty(len(latent), 0) if one_hot is None else weight * one_hot

    # --- training ---------------------------------------------------------------------------------------

    def aligned_parameters(self) -> list[nn.Parameter]:  # noqa: D102
        return [*self.encoder.parameters(), *(parameter for head in self.heads() for parameter in head.parameters())]

    def training_step(self, batch: Batch, batch_index: int) -> None:
        """Take one step on the loss of equation 4."""
        (optimizer,) = self.scheduled_optimizers()
        self.encoder_step(batch, optimizer)

    def encoder_step(self, batch: Batch, optimizer: Any) -> tuple[Posterior, Tensor]:
        """Take one step on the loss of equation 4; return the posterior and the features, detached."""
        labels, options = batch[1], self.hparams
        images = self.prepare(batch[0])
        head = self.composed_head(len(images))
        posterior = self.posterior(images, head)
        one_hot = self.one_hot(labels, len(images))
        features = self.feature(posterior.draw(), one_hot, head, check=self.global_step == 0)

        reconstruction = squared_error(images, features)
        divergence = kl_divergence(posterior.mean, posterior.log_variance)
        beta = kl_weight(divergence, options["beta"], options["kl_warmup"], self.steps_done)
        loss = (reconstruction + beta * divergence).mean()
        if labels is not None and options["cross_entropy_weight"]:
            entropy = nn.functional.cross_entropy(posterior.scores, labels)
            loss = loss + options["cross_entropy_weight"] * entropy
            self.log("cross_entropy", entropy.detach())
        self.step(optimizer, loss, clip=options["clip_gradient"])
        self.log_dict(
            {"reconstruction": reconstruction.mean().detach(), "kl": divergence.mean().detach()}, prog_bar=True
        )
        return Posterior(*(part.detach() for part in posterior)), features.detach()
