"""Plain feature alignment (§3.1): an encoder that is its own decoder, with no prior."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ..core import speed
from ..core.affine_cache import AffineCache
from ..core.alignment import align
from ..core.checks import Network, Structure, refuse_batch_statistics
from ..core.linearization import rows
from ..core.pullback import Chain
from ..core.starts import STARTS, draw_start
from ..core.step_sizes import STEP_RULES
from .losses import squared_error
from .model import Model, inference
from .networks import Encoder, orthogonal_
from .options import EncoderOptions, one_of
from .snapshot import Snapshot
from .updates import Loss, Updates

__all__ = ["FA", "FAOptions"]

Squash = Literal["last", "every", "none"]


@dataclass(frozen=True)
class FAOptions(EncoderOptions):
    r"""Options of :class:`FA`.

    Args:
        steps: :math:`T`.
        step_size: :math:`\tau`, a number or one per step, or the name of a rule, ``auto``: chosen at every step so
            that the flow cannot diverge, see :func:`feature_alignment.align`.
        learn_step_size: train the step sizes, one per step, kept positive.
        start: :math:`r^0`: ``zeros``, ``uniform`` on (0, 1) or ``normal`` noise, fresh for every image, or
            ``learned``, a parameter; in Python also a tensor of the image's shape, saved as ``given``.
        squash: where the sigmoid that keeps pixels in (0, 1) acts: ``last`` step only (the paper's code),
            ``every`` step (the iterate lives in logit space; needed to train with more than one step), or
            ``none`` (the paper).
        recompute: keep only the iterate of every step for the backward pass and compute the rest again: more
            steps then hardly need more memory, but about half as much time again.
        clamp_inputs: images are clamped to [c, 1 - c] before training on them; 0 for none.
        clamp_weights: bound on every weight of the encoder, applied before each update (equation 7); none for
            no bound.
    """

    steps: int = 1
    step_size: float | Sequence[float] | str = 1.0
    learn_step_size: bool = False
    start: str = "zeros"
    squash: Squash = "last"
    recompute: bool = False
    clamp_inputs: float = 0.01
    clamp_weights: float | None = math.sqrt(2)

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("squash", self.squash, Squash)
        if self.start not in STARTS:
            known = ", ".join(name for name in STARTS if name != "given")
            raise ValueError(f"start: expected one of {known}, or in Python a tensor, got {self.start!r}")
        if isinstance(self.step_size, str) and self.step_size not in STEP_RULES:
            raise ValueError(f"step_size: expected numbers or one of {', '.join(STEP_RULES)}, got {self.step_size!r}")
        if not 0 <= self.clamp_inputs < 0.5:
            raise ValueError(f"clamp_inputs: expected at least 0 and below 0.5, got {self.clamp_inputs}")
        if self.steps < 1:
            raise ValueError(f"steps: expected at least 1, got {self.steps}")
        if self.step_size == "auto" and self.learn_step_size:
            raise ValueError("learn_step_size: a step size of auto is chosen, not learned; give a number to start from")
        sizes = self.step_sizes()
        if len(sizes) != self.steps or not all(size > 0 for size in sizes):
            raise ValueError(
                f"step_size: expected a positive number, or one for each of {self.steps} steps, got {self.step_size}"
            )

    def step_sizes(self) -> list[float]:
        """Return the step size of each step; 1 where a rule chooses it."""
        if isinstance(self.step_size, str):
            return [1.0] * self.steps
        return [self.step_size] * self.steps if isinstance(self.step_size, int | float) else list(self.step_size)


class FA(Model):
    r"""Feature alignment, Algorithm 1.

    The reconstruction of an image is the feature of its latent: the input to which
    :func:`feature_alignment.align` leads from a start that knows nothing of the image. Training minimises,
    per image,

    .. math::
        \mathcal L = \lVert x - \hat r \rVert^2

    Nothing gives the latents a distribution to sample from; samples are decoded from a normal one with the
    mean and variance that the latents had in training.

    Args:
        image_shape: ``(C, H, W)``, square.
        latent: size of the latent vector.
        encoder: a module of your own from ``(N, C, H, W)`` to ``(N, width)``, instead of the one described
            by ``channels``, ``width`` and ``activation``. It must treat the samples of a batch independently.
        options: see :class:`FAOptions`.

    Raises:
        ValueError: an option out of range, named.
    """

    Options: ClassVar[type[Any]] = FAOptions
    options: FAOptions
    compiled: ClassVar[tuple[str, ...]] = ("evaluate", "follow")

    def __init__(
        self, image_shape: Sequence[int], latent: int = 32, *, encoder: nn.Module | None = None, **options: Any
    ) -> None:
        given = options.get("start")
        if isinstance(given, Tensor):
            options["start"] = "given"
        super().__init__(image_shape, latent=latent, **options)
        asked = self.options
        self.encoder: nn.Module = encoder or Encoder(image_shape, asked.channels, asked.width, asked.activation)
        #: From the encoder's output to the latent; in a variational model, to its mean.
        self.mean = nn.Linear(asked.width, latent)
        for module in (self.mean, self.encoder if encoder is None else None):
            if module is not None:
                module.apply(orthogonal_)
        self.latent_statistics = nn.BatchNorm1d(latent, affine=False)
        # The logarithm keeps a learned step size positive.
        self.log_step_sizes = nn.Parameter(torch.tensor(asked.step_sizes()).log(), requires_grad=asked.learn_step_size)
        start = given if isinstance(given, Tensor) else torch.zeros(*image_shape)
        if start.shape != torch.Size(image_shape):
            raise ValueError(f"start: expected shape {tuple(image_shape)}, got {tuple(start.shape)}")
        self.start = nn.Parameter(start.clone(), requires_grad=asked.start == "learned")
        self._affine = AffineCache()
        self.to(memory_format=torch.channels_last)  # doubles the convolutions' rate on a CPU

    # --- the protocol -----------------------------------------------------------------------------------

    @inference
    def encode(self, images: Tensor) -> Tensor:  # noqa: D102
        self.check_images(images)
        latent: Tensor = self.mean(self.encoder(images))
        return latent

    @inference
    def decode(self, latent: Tensor, labels: Tensor | None = None, stress: float = 1.0) -> Tensor:  # noqa: D102
        self.check_latent(latent)
        one_hot = self.one_hot(labels, len(latent))
        one_hot = None if one_hot is None else stress * one_hot
        if not self._is_affine():
            return self.feature(latent, one_hot)
        matrix, offset = self._affine(self, self._squashed_network, self.start.unsqueeze(0), self._step_size(1))
        feature = torch.addmm(offset, rows(self.target(latent, one_hot)), matrix).view(-1, *self.image_shape)
        return feature if self.options.squash == "none" else feature.sigmoid()

    def _is_affine(self) -> bool:
        """Whether decoding is one cached affine map: one step from a start that all images share."""
        options = self.options
        known = not isinstance(options.step_size, str) or options.step_size == "auto"
        shared = len(draw_start(options.start, torch.empty(1, device="meta"), 2)) == 1  # draws no random number
        return speed.enabled() and known and options.steps == 1 and shared

    def feature(self, latent: Tensor, one_hot: Tensor | None = None, *, check: bool = False) -> Tensor:
        """Return the feature of ``latent`` (and class), differentiable, see :meth:`Snapshot.feature`."""
        return self.snapshot(len(latent)).feature(latent, one_hot, check=check)

    # --- the network ------------------------------------------------------------------------------------

    def snapshot(self, count: int = 1) -> Snapshot:
        """Return the network at the weights it has now, to encode and align ``count`` images."""
        return Snapshot.of(self, count)

    def heads(self) -> list[nn.Linear]:
        """Return the linear layers, side by side, that the encoder's output goes to."""
        return [self.mean]

    def aligned_parts(self) -> list[Network]:
        """Return what turns the heads' outputs into what is aligned: nothing, they are."""
        return []

    def target(self, latent: Tensor, one_hot: Tensor | None = None) -> Structure:
        """Return what the network should say of the feature."""
        return latent

    def starts(self, count: int) -> Tensor:
        """Return :math:`r^0`, shape ``(1, C, H, W)``, or ``(count, C, H, W)`` of noise."""
        return draw_start(self.options.start, self.start, count)

    def evaluate(self, layers: Chain, images: Tensor) -> Tensor:
        """Return what ``layers`` make of images; by itself, for ``torch.compile``."""
        outputs: Tensor = layers(images)
        return outputs

    def follow(self, network: Chain, target: Structure, starts: Tensor, check: bool) -> Tensor:
        """Return the feature of ``target`` under ``network``, equation 2 with this model's options."""
        squash = self.options.squash
        feature = align(
            network,
            target,
            starts,
            steps=self.options.steps,
            step_size=self._step_size(),
            squash=torch.sigmoid if squash == "every" else None,
            recompute=self.options.recompute,
            check=check,
        )
        return feature.sigmoid() if squash == "last" else feature

    def _squashed_network(self) -> Chain:
        network = self.snapshot().network
        return Chain([torch.sigmoid, network]) if self.options.squash == "every" else network

    def _step_size(self, step: int | None = None) -> Any:
        """Return the step sizes, or that of one step, counted from 1; or the name of the rule that chooses them."""
        if isinstance(self.options.step_size, str):
            return self.options.step_size
        sizes = self.log_step_sizes.exp()
        return sizes if step is None else sizes[step - 1]

    # --- training ---------------------------------------------------------------------------------------

    def aligned_parameters(self) -> list[nn.Parameter]:
        """Return the weights that the encoder's loss trains."""
        return [*self.encoder.parameters(), *(each for head in self.heads() for each in head.parameters())]

    def optimizers(self) -> dict[str, Optimizer]:  # noqa: D102
        return {"encoder": self.adam([*self.aligned_parameters(), self.log_step_sizes, self.start])}

    def training_step(self, images: Tensor, labels: Tensor | None, updates: Updates) -> None:
        """Take one update of Algorithm 1."""
        images = self.prepare(images, updates)

        def loss() -> Loss:
            network = self.snapshot(len(images))
            latent = network.outputs(images)
            features = network.feature(latent, check=updates.done == 0)
            error = squared_error(images, features).mean()
            return Loss(error, {"reconstruction": error.detach()}, latent.detach())

        latent = updates.take("encoder", loss, self.options.clip_gradient)
        self.track_latents(latent, updates.done)

    def prepare(self, images: Tensor, updates: Updates) -> Tensor:
        """Clamp the weights, check once that the encoder suits alignment, and return the images, clamped."""
        self.clamp_weights()
        if updates.done == 0:
            refuse_batch_statistics(self.encoder)
        margin = self.options.clamp_inputs
        return images.clamp(margin, 1 - margin) if margin else images

    @torch.no_grad()
    def clamp_weights(self) -> None:
        r"""Clamp the encoder's weights to :math:`[-\sqrt 2, \sqrt 2]`, or the bound asked for (equation 7)."""
        bound = self.options.clamp_weights
        if bound is not None:
            for parameter in self.aligned_parameters():
                parameter.clamp_(-bound, bound)
