"""Plain feature alignment (§3.1): an encoder that is its own decoder, with no prior."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ..core.alignment import align
from ..core.checks import Network, Structure, refuse_batch_statistics
from ..core.layers import Cast
from ..core.linearization import affine_map, rows
from ..core.pullback.rules import Chain
from ..core.speed.fusion import Affine, composed, hooked
from .base import Batch, Model, inference, one_of
from .losses import squared_error
from .networks import Encoder, orthogonal_

__all__ = ["FA"]

Start = Literal["zeros", "uniform", "normal", "learned"]
Squash = Literal["last", "every", "none"]


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
        channels: filters per halving of the image's side, see :class:`feature_alignment.networks.Encoder`.
        width: size of the encoder's output.
        activation: of the encoder; smooth ones (``silu``) suit more than one step.
        steps: :math:`T`.
        step_size: :math:`\tau`, a number or one per step, or ``auto``: chosen at every step so that the flow
            cannot diverge, see :func:`feature_alignment.align`.
        learn_step_size: train the step sizes, one per step, kept positive.
        start: :math:`r^0`: ``zeros``, ``uniform`` on (0, 1) or ``normal`` noise, fresh for every image, or
            ``learned``, a parameter; or a tensor of shape ``image_shape``.
        squash: where the sigmoid that keeps pixels in (0, 1) acts: ``last`` step only (the paper's code),
            ``every`` step (the iterate lives in logit space; needed to train with more than one step), or
            ``none`` (the paper).
        recompute: keep only the iterate of every step for the backward pass and compute the rest again: more
            steps then hardly need more memory, but about half as much time again.
        clamp_inputs: images are clamped to [c, 1 - c] before training on them; 0 for none.
        clamp_weights: bound on every weight of the encoder, applied before each step (equation 7); none for
            no bound.
        clip_gradient: largest norm of the encoder's gradient; none for no bound.
        kwargs: as for :class:`Model`: ``learning_rate``, ``betas``, ``schedule``.

    Raises:
        ValueError: an option out of range, named.
    """

    compiled: tuple[str, ...] = ("outputs", "feature")

    def __init__(
        self,
        image_shape: Sequence[int],
        latent: int = 32,
        encoder: nn.Module | None = None,
        channels: Sequence[int] = (32, 64),
        width: int = 4096,
        activation: str = "leaky_relu",
        steps: int = 1,
        step_size: float | Sequence[float] | Literal["auto"] = 1.0,
        learn_step_size: bool = False,
        start: Start | Tensor = "zeros",
        squash: Squash = "last",
        recompute: bool = False,
        clamp_inputs: float = 0.01,
        clamp_weights: float | None = math.sqrt(2),
        clip_gradient: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(image_shape, latent, **kwargs)
        one_of("squash", squash, Squash)
        if not 0 <= clamp_inputs < 0.5:
            raise ValueError(f"clamp_inputs: expected at least 0 and below 0.5, got {clamp_inputs}")

        self.encoder: nn.Module = encoder or Encoder(image_shape, channels, width, activation)
        #: From the encoder's output to the latent; in a variational model, to its mean.
        self.mean = nn.Linear(width, latent)
        for module in (self.mean, self.encoder if encoder is None else None):
            if module is not None:
                module.apply(orthogonal_)
        self.latent_statistics = nn.BatchNorm1d(latent, affine=False)

        if steps < 1:
            raise ValueError(f"steps: expected at least 1, got {steps}")
        if step_size == "auto" and learn_step_size:
            raise ValueError("learn_step_size: a step size of auto is chosen, not learned; give a number to start from")
        first = 1.0 if step_size == "auto" else step_size
        sizes = torch.tensor([first] * steps if isinstance(first, int | float) else list(first))
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
        self._affine: tuple[Any, tuple[Tensor, Tensor]] | None = None
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
        if self.hparams["steps"] > 1 or self.hparams["start"] in ("uniform", "normal"):
            return self.feature(latent, one_hot)
        matrix, offset = self._affine_map()
        feature = torch.addmm(offset, rows(self.target(latent, one_hot)), matrix).view(-1, *self.image_shape)
        return feature if self.hparams["squash"] == "none" else feature.sigmoid()

    def _affine_map(self) -> tuple[Tensor, Tensor]:
        """Return the one matrix product that decodes after one step from a shared start, as long as it is valid."""
        used = [*self.parameters(), *self.buffers()]
        # Whoever writes into a tensor counts its version up; whoever replaces it moves it.
        state = tuple(
            (each.data_ptr(), each._version, each.dtype, each.device) for each in used if not each.is_inference()
        )
        if self._affine is None or self._affine[0] != state or len(state) < len(used):
            network = self.network()
            found = affine_map(
                Chain([torch.sigmoid, network]) if self.hparams["squash"] == "every" else network,
                self.start.unsqueeze(0),
                "auto" if self.hparams["step_size"] == "auto" else self.log_step_sizes.exp()[0],
            )
            self._affine = state, found
        return self._affine[1]

    def feature(
        self, latent: Tensor, one_hot: Tensor | None = None, head: Affine | None = None, *, check: bool = False
    ) -> Tensor:
        r"""Return :math:`\hat r` of ``latent`` (and class), differentiable; shape ``(N, C, H, W)``.

        Args:
            latent, one_hot: as for :meth:`decode`, checked.
            head: what :meth:`composed_head` returned for these weights, if it was asked already.
            check: as for :func:`feature_alignment.align`.
        """
        squash: str = self.hparams["squash"]
        feature = align(
            self.network(head or self.composed_head(len(latent))),
            self.target(latent, one_hot),
            self._starts(len(latent)),
            steps=self.hparams["steps"],
            step_size="auto" if self.hparams["step_size"] == "auto" else self.log_step_sizes.exp(),
            squash=torch.sigmoid if squash == "every" else None,
            recompute=self.hparams["recompute"],
            check=check,
        )
        return feature.sigmoid() if squash == "last" else feature

    def network(self, head: Affine | None = None) -> Chain:
        """Return :math:`E`, from images to what is aligned: the structure of :meth:`target`."""
        return Chain(self._layers(head))

    def heads(self) -> list[nn.Linear]:
        """Return the linear layers, side by side, that the encoder's output goes to."""
        return [self.mean]

    def outputs(self, images: Tensor, head: Affine | None = None) -> Tensor:
        """Return what the :meth:`heads` put out for each image, one after the other; by their :meth:`composed_head`."""
        return cast(Tensor, Chain(self._layers(head))(images))

    def _layers(self, head: Affine | None) -> list[Network]:
        in_full = Cast(self.mean.weight.dtype)  # losses are not for bfloat16
        if head is not None:
            return [*cast(Encoder, self.encoder).trunk, head, in_full]
        heads = self.heads()
        together = heads[0] if len(heads) == 1 else lambda hidden: torch.cat([each(hidden) for each in heads], 1)
        return [self.encoder, together, in_full]

    def composed_head(self, count: int) -> Affine | None:
        """Return the encoder's last layer and the :meth:`heads` as one map, or none if that were more work.

        ``count`` images go through it once, and forwards and back in every step of their features. It holds for
        the weights as they are.
        """
        encoder, heads = self.encoder, self.heads()
        if type(encoder) is not Encoder or hooked(encoder, encoder.last, *heads):
            return None  # one of the user's own, or one that has to be called
        passes = (1 + 2 * self.hparams["steps"]) * count
        return composed(encoder.last, heads) if sum(head.out_features for head in heads) <= passes else None

    def target(self, latent: Tensor, one_hot: Tensor | None = None) -> Structure:
        """Return what the network should say of the feature."""
        return latent

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
        return [*self.encoder.parameters(), *self.mean.parameters()]

    def configure_optimizers(self) -> list[Optimizer]:  # noqa: D102
        return [self.adam([*self.aligned_parameters(), self.log_step_sizes, self.start])]

    def training_step(self, batch: Batch, batch_index: int) -> None:
        """Take one step of Algorithm 1."""
        (optimizer,) = self.scheduled_optimizers()
        images = self.prepare(batch[0])
        head = self.composed_head(len(images))
        latent = self.outputs(images, head)
        self.track_latents(latent)
        features = self.feature(latent, head=head, check=self.global_step == 0)
        loss = squared_error(images, features).mean()
        self.step(optimizer, loss, clip=self.hparams["clip_gradient"])
        self.log("reconstruction", loss.detach(), prog_bar=True)

    def prepare(self, images: Tensor) -> Tensor:
        """Clamp the weights, look once whether the encoder suits alignment, and return the images, clamped."""
        self.clamp_weights()
        if self.global_step == 0:
            refuse_batch_statistics(self.encoder)
        margin = self.hparams["clamp_inputs"]
        return images.clamp(margin, 1 - margin) if margin else images

    @torch.no_grad()
    def clamp_weights(self) -> None:
        r"""Clamp the encoder's weights to :math:`[-\sqrt 2, \sqrt 2]`, or the bound asked for (equation 7)."""
        bound = self.hparams["clamp_weights"]
        if bound is not None:
            for parameter in self.aligned_parameters():
                parameter.clamp_(-bound, bound)
