"""Variational feature alignment (§3.2): an autoencoder whose decoder is the encoder, run backwards."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from ..alignment import align, refuse_batch_statistics
from ..losses import kl_divergence, squared_error
from ..networks import Encoder, orthogonal_
from .base import Batch, Model, inference, one_of

__all__ = ["VFA", "Posterior"]

Start = Literal["zeros", "uniform", "normal", "learned"]
Beta = Literal["uniform"]
Squash = Literal["last", "every", "none"]
StartBranch = Literal["mean+deviation", "mean"]
Schedule = Literal["constant", "cosine"]


class Posterior(NamedTuple):
    """What the encoder says of an image: mean and log-variance, ``(N, latent)``, class scores ``(N, classes)``."""

    mean: Tensor
    log_variance: Tensor
    scores: Tensor

    @property
    def deviation(self) -> Tensor:
        r""":math:`\sigma = \exp(\tfrac12 \log \sigma^2)`."""
        return (0.5 * self.log_variance).exp()


class VFA(Model):
    r"""Variational feature alignment.

    The encoder gives every image a posterior :math:`\mathcal N(\mu, \sigma^2)`; the feature of a draw
    :math:`z` from it, reached by :func:`feature_alignment.align` from a start that knows nothing of the
    image, is the reconstruction. Training minimises, per image,

    .. math::
        \mathcal L_E = \lVert x - \hat r \rVert^2 + \beta \, D_{KL}(q(z|x) \Vert p(z)) \qquad (4)

    A conditional model (``classes`` > 0) has a linear class head beside :math:`\mu` and
    :math:`\log \sigma^2`; the scores are part of the aligned output, and their target is the one-hot label,
    so the label steers the feature.

    Args:
        image_shape: ``(C, H, W)``, square.
        latent: size of the latent vector.
        classes: number of classes, 0 for an unconditional model.
        encoder: a module of your own from ``(N, C, H, W)`` to ``(N, width)``, instead of the one described
            by ``channels``, ``width`` and ``activation``. It must treat the samples of a batch independently.
        channels: filters per halving of the image's side, see :class:`feature_alignment.networks.Encoder`.
        width: size of the encoder's output.
        activation: of the encoder; smooth ones (``silu``) suit more than one step.
        steps: :math:`T`.
        step_size: :math:`\tau`, a number or one per step.
        learn_step_size: train the step sizes, one per step, kept positive.
        start: :math:`r^0`: ``zeros``, ``uniform`` on (0, 1) or ``normal`` noise, fresh for every image, or
            ``learned``, a parameter; or a tensor of shape ``image_shape``.
        squash: where the sigmoid that keeps pixels in (0, 1) acts: ``last`` step only (the paper's code),
            ``every`` step (the iterate lives in logit space; needed to train with more than one step), or
            ``none`` (the paper).
        clamp_inputs: images are clamped to [c, 1 - c] before training on them; 0 for none.
        start_branch: what the start's branch aligns: ``mean+deviation`` (the paper's code) or ``mean``.
        beta: weight of the KL divergence: a number, or ``uniform`` for a draw from U(0, 1) per example and step.
        kl_warmup: number of steps over which that weight grows linearly from 0.
        class_weight: weight of the class scores in the aligned distance.
        cross_entropy_weight: weight of a cross-entropy on the class scores of the images.
        clamp_weights: bound on every weight of the encoder, applied before each step (equation 7); none for
            no bound.
        learning_rate: of Adam; the paper prints 1e-5, its code has 1e-4.
        betas: of Adam.
        schedule: of the learning rate: ``constant``, or ``cosine`` from its value to 0 over the
            training's steps, or over its time limit if that comes first.
        clip_gradient: largest norm of the encoder's gradient; none for no bound.

    Raises:
        ValueError: an option out of range, named.
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        latent: int = 32,
        classes: int = 0,
        encoder: nn.Module | None = None,
        channels: Sequence[int] = (32, 64),
        width: int = 4096,
        activation: str = "leaky_relu",
        steps: int = 1,
        step_size: float | Sequence[float] = 1.0,
        learn_step_size: bool = False,
        start: Start | Tensor = "zeros",
        squash: Squash = "last",
        clamp_inputs: float = 0.01,
        start_branch: StartBranch = "mean+deviation",
        beta: float | Beta = "uniform",
        kl_warmup: int = 0,
        class_weight: float = 1.0,
        cross_entropy_weight: float = 0.0,
        clamp_weights: float | None = math.sqrt(2),
        learning_rate: float = 1e-4,
        betas: tuple[float, float] = (0.5, 0.999),
        schedule: Schedule = "constant",
        clip_gradient: float | None = None,
    ) -> None:
        super().__init__(image_shape, latent, classes)
        self.save_hyperparameters(ignore=["encoder", "start"], logger=False)
        self.automatic_optimization = False
        one_of("squash", squash, Squash)
        one_of("start_branch", start_branch, StartBranch)
        one_of("schedule", schedule, Schedule)
        if not 0 <= clamp_inputs < 0.5:
            raise ValueError(f"clamp_inputs: expected at least 0 and below 0.5, got {clamp_inputs}")
        for name, value in (("class_weight", class_weight), ("cross_entropy_weight", cross_entropy_weight)):
            if value < 0:
                raise ValueError(f"{name}: expected at least 0, got {value}")
        if isinstance(beta, str):
            one_of("beta", beta, Beta)
        elif beta < 0:
            raise ValueError(f"beta: expected uniform or a number of at least 0, got {beta}")

        self.encoder: nn.Module = encoder or Encoder(image_shape, channels, width, activation)
        self.mean = nn.Linear(width, latent)
        self.log_variance = nn.Linear(width, latent)
        self.scores = nn.Linear(width, classes) if classes else None
        for module in (self.mean, self.log_variance, self.scores, self.encoder if encoder is None else None):
            if module is not None:
                module.apply(orthogonal_)

        if steps < 1:
            raise ValueError(f"steps: expected at least 1, got {steps}")
        sizes = torch.tensor([step_size] * steps if isinstance(step_size, int | float) else list(step_size))
        if sizes.shape != (steps,) or not bool((sizes > 0).all()):
            raise ValueError(
                f"step_size: expected a positive number, or one for each of {steps} steps, got {step_size}"
            )
        # The logarithm keeps a learned step size positive.
        self.log_step_sizes = nn.Parameter(sizes.log(), requires_grad=learn_step_size)

        # A given tensor is saved with the weights; "given" in a configuration says that it will come from there.
        self.hparams["start"] = "given" if isinstance(start, Tensor) else start
        if self.hparams["start"] != "given":
            one_of("start", start, Start)
        given = start if isinstance(start, Tensor) else torch.zeros(*image_shape)
        if given.shape != torch.Size(image_shape):
            raise ValueError(f"start: expected shape {tuple(image_shape)}, got {tuple(given.shape)}")
        self.start = nn.Parameter(given.clone(), requires_grad=start == "learned")
        self.to(memory_format=torch.channels_last)  # doubles the convolutions' rate on a CPU

    # --- the protocol -----------------------------------------------------------------------------------

    def posterior(self, images: Tensor) -> Posterior:
        """Return mean, log-variance and class scores of each image."""
        hidden = self.encoder(images)
        scores = hidden.new_empty(len(hidden), 0) if self.scores is None else self.scores(hidden)
        parts = (self.mean(hidden), self.log_variance(hidden), scores)
        return Posterior(*(part.to(self.mean.weight.dtype) for part in parts))  # losses are not for bfloat16

    @inference
    def encode(self, images: Tensor) -> Tensor:  # noqa: D102
        return self.posterior(images).mean

    @inference
    def decode(self, latent: Tensor, labels: Tensor | None = None, stress: float = 1.0) -> Tensor:  # noqa: D102
        if latent.ndim != 2 or latent.shape[1] != self.latent:
            raise ValueError(f"latent: expected shape (N, {self.latent}), got {tuple(latent.shape)}")
        one_hot = self.one_hot(labels, len(latent))
        return self.feature(latent, None if one_hot is None else stress * one_hot)

    @inference
    def infer_labels(self, images: Tensor) -> Tensor:
        """Return the class of the highest score if the class head learned to tell, else the one that explains best."""
        if self.hparams["cross_entropy_weight"]:
            return self.posterior(images).scores.argmax(1)
        return super().infer_labels(images)

    def feature(self, latent: Tensor, one_hot: Tensor | None = None, *, check: bool = False) -> Tensor:
        r"""Return :math:`\hat r` of ``(latent, one_hot)``, differentiable; shape ``(N, C, H, W)``."""
        squash: str = self.hparams["squash"]
        weight = math.sqrt(self.hparams["class_weight"])
        feature = align(
            self._aligned_output,
            (latent, latent.new_empty(len(latent), 0) if one_hot is None else weight * one_hot),
            self._starts(len(latent)),
            steps=self.hparams["steps"],
            step_size=self.log_step_sizes.exp(),
            squash=torch.sigmoid if squash == "every" else None,
            check=check,
        )
        return feature.sigmoid() if squash == "last" else feature

    def _aligned_output(self, images: Tensor) -> tuple[Tensor, Tensor]:
        at = self.posterior(images)
        latent = at.mean + at.deviation if self.hparams["start_branch"] == "mean+deviation" else at.mean
        # A weight w on a squared distance is a factor sqrt(w) on both of its sides.
        return latent, math.sqrt(self.hparams["class_weight"]) * at.scores

    def _starts(self, count: int) -> Tensor:
        kind = self.hparams["start"]
        if kind == "uniform":
            return torch.rand_like(self.start.expand(count, -1, -1, -1))
        if kind == "normal":
            return torch.randn_like(self.start.expand(count, -1, -1, -1))
        return self.start.unsqueeze(0)

    # --- training ---------------------------------------------------------------------------------------

    def aligned_parameters(self) -> list[nn.Parameter]:
        """Return the weights that the encoder's loss trains."""
        modules = (self.encoder, self.mean, self.log_variance, self.scores)
        return [parameter for module in modules if module is not None for parameter in module.parameters()]

    def configure_optimizers(self) -> list[Optimizer]:  # noqa: D102
        return [self._adam([*self.aligned_parameters(), self.log_step_sizes, self.start])]

    def _adam(self, parameters: Sequence[nn.Parameter], factor: float = 1.0) -> Adam:
        trained = [parameter for parameter in parameters if parameter.requires_grad]
        return Adam(trained, lr=factor * self.hparams["learning_rate"], betas=tuple(self.hparams["betas"]))

    def training_step(self, batch: Batch, batch_index: int) -> None:  # noqa: D102
        (optimizer,) = self._optimizers()
        self.encoder_step(batch, optimizer)

    def encoder_step(self, batch: Batch, optimizer: Any) -> tuple[Posterior, Tensor]:
        """Take one step on the loss of equation 4; return the posterior and the features, detached."""
        images, labels = batch
        options = self.hparams
        self.clamp_weights()
        if options["clamp_inputs"]:
            images = images.clamp(options["clamp_inputs"], 1 - options["clamp_inputs"])

        if self.global_step == 0:  # look once whether the network suits alignment at all
            refuse_batch_statistics(self.encoder)
        posterior = self.posterior(images)
        latent = posterior.mean + torch.randn_like(posterior.mean) * posterior.deviation
        features = self.feature(latent, self.one_hot(labels, len(images)), check=self.global_step == 0)

        reconstruction = squared_error(images, features)
        divergence = kl_divergence(posterior.mean, posterior.log_variance)
        loss = (reconstruction + self._beta(divergence) * divergence).mean()
        if labels is not None and options["cross_entropy_weight"]:
            entropy = nn.functional.cross_entropy(posterior.scores, labels)
            loss = loss + options["cross_entropy_weight"] * entropy
            self.log("cross_entropy", entropy.detach())
        self.step(optimizer, loss, clip=options["clip_gradient"])
        self.log_dict(
            {"reconstruction": reconstruction.mean().detach(), "kl": divergence.mean().detach()}, prog_bar=True
        )
        return Posterior(*(part.detach() for part in posterior)), features.detach()

    def _beta(self, divergence: Tensor) -> Tensor | float:
        beta = self.hparams["beta"]
        weight = torch.rand_like(divergence) if beta == "uniform" else beta
        warmup = self.hparams["kl_warmup"]
        return weight * min(1.0, (self.steps_done + 1) / warmup) if warmup else weight

    @torch.no_grad()
    def clamp_weights(self) -> None:
        r"""Clamp the encoder's weights to :math:`[-\sqrt 2, \sqrt 2]`, or the bound asked for (equation 7)."""
        bound = self.hparams["clamp_weights"]
        if bound is not None:
            for parameter in self.aligned_parameters():
                parameter.clamp_(-bound, bound)

    @property
    def steps_done(self) -> int:
        """Training steps (batches) taken so far; Lightning's ``global_step`` counts every optimiser's."""
        return self.global_step // self.optimizers_per_step

    def step(self, optimizer: Any, loss: Tensor, clip: float | None = None) -> None:
        """Let ``optimizer`` take one step down ``loss``, at the learning rate of the schedule."""
        optimizer.zero_grad()
        self.manual_backward(loss)
        if clip is not None:
            self.clip_gradients(optimizer, gradient_clip_val=clip, gradient_clip_algorithm="norm")
        if self.hparams["schedule"] == "cosine":
            done = max(self.global_step / max(1, int(self.trainer.estimated_stepping_batches)), self.time_used)
            for group in optimizer.param_groups:
                group.setdefault("initial_lr", group["lr"])
                group["lr"] = group["initial_lr"] * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
        optimizer.step()

    def _optimizers(self) -> list[Any]:
        optimizers = self.optimizers()
        return optimizers if isinstance(optimizers, list) else [optimizers]
