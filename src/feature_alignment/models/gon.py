"""The Gradient Origin Network, a baseline: one decoder, whose gradient at the origin encodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ..core.alignment import align
from ..core.pullback import Chain
from ..core.speed.fusion import Affine
from .ae import with_class
from .inference import inference
from .losses import squared_error
from .model import Model
from .networks import Decoder, orthogonal_
from .options import ModelOptions, at_least, sizes
from .updates import Loss, Updates

__all__ = ["GON", "GONOptions"]


@dataclass(frozen=True)
class GONOptions(ModelOptions):
    r"""Options of :class:`GON`.

    Args:
        channels: number of filters, one entry per doubling of the image's side, see
            :class:`feature_alignment.models.networks.Decoder`.
        width: size of the decoder's first hidden layer.
        activation: of the decoder; it is differentiated twice, so smooth ones (``silu``) suit it.
        steps: gradient steps from the origin to the latent; 1 in the paper.
        step_size: :math:`\tau`: a number, or one per step; none for the one with which, under the initial weights,
            the latents of uniform noise have standard deviation 1; about 1 after several steps.
        learn_step_size: train the step sizes, one per step, kept positive; the published code has a fixed one.
    """

    channels: Sequence[int] = (32, 64)
    width: int = 4096
    activation: str = "silu"
    steps: int = 1
    step_size: float | Sequence[float] | None = None
    learn_step_size: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        sizes(channels=self.channels, width=self.width)
        at_least(1, steps=self.steps)
        each = self.step_sizes()
        if len(each) != self.steps or not all(size > 0 for size in each):
            raise ValueError(
                f"step_size: expected a positive number, or one for each of {self.steps} steps, got {self.step_size}"
            )

    def step_sizes(self) -> list[float]:
        """Return the step size of each step; 1 where it is to be determined."""
        if self.step_size is None:
            return [1.0] * self.steps
        return [self.step_size] * self.steps if isinstance(self.step_size, int | float) else list(self.step_size)


class GON(Model):
    r"""Gradient Origin Network (Bond-Taylor and Willcocks, ICLR 2021, arXiv 2007.02798): Algorithm 1, roles swapped.

    The network is a decoder :math:`D`, the target an image :math:`x`; what is sought is the latent, from the origin:

    .. math::
        z = -\tau J_D(0)^\top \bigl(D(0) - x\bigr), \qquad \mathcal L = \lVert x - D(z) \rVert^2

    This is equation 2 with :math:`E := D` and :math:`r := z`, see :func:`feature_alignment.align`; training
    differentiates through it. With one step the latent is an affine function of the image.

    The published code takes the gradient of a mean over batch and pixels, :math:`\tau = 2 / (N H W)`, and batch
    normalisation. Here the distance is half a sum over the pixels of one image, so that a latent is independent of
    the batch, and there is no normalisation. Instead :math:`\tau` begins where latents are of unit scale: every layer
    shrinks the Jacobian, and from latents that are hardly distinct the decoder learns slowly. Then it is learned.

    With ``classes`` the decoder is given the one-hot label beside the latent; while the latent is sought, zeros are in
    its place, so that encoding takes no label. Samples are decoded from a normal distribution with the mean and
    covariance of the training images' latents.

    Args:
        image_shape: ``(C, H, W)``, square.
        latent: size of the latent vector.
        options: see :class:`GONOptions`; the decoder is that of :class:`feature_alignment.models.AE`.

    Raises:
        ValueError: an option out of range, named.

    Example:
        >>> model = GON((1, 8, 8), latent=4, channels=(4,), width=16)
        >>> model.reconstruct(torch.rand(2, 1, 8, 8)).shape
        torch.Size([2, 1, 8, 8])
    """

    Options: ClassVar[type[Any]] = GONOptions
    options: GONOptions
    has_prior = False
    stage = "decoded"
    compiled: ClassVar[tuple[str, ...]] = ("infer", "decoder")

    def __init__(self, image_shape: Sequence[int], latent: int = 32, **options: Any) -> None:
        super().__init__(image_shape, latent=latent, **options)
        asked = self.options
        inputs = latent + self.classes
        self.decoder = Decoder(image_shape, inputs, asked.channels, asked.width, asked.activation).apply(orthogonal_)
        # The logarithm keeps a learned step size positive.
        self.log_step_sizes = nn.Parameter(torch.tensor(asked.step_sizes()).log(), requires_grad=asked.learn_step_size)
        self.to(memory_format=torch.channels_last)
        if asked.step_size is None:
            self._begin_at_unit_scale()

    @inference
    def encode(self, images: Tensor, labels: Tensor | None = None) -> Tensor:  # noqa: D102
        self.check_images(images)
        return self.infer(images)

    @inference
    def decode(self, latent: Tensor, labels: Tensor | None = None, stress: float = 1.0) -> Tensor:  # noqa: D102
        self.check_latent(latent)
        one_hot = self.one_hot(labels, latent.shape[0])
        images: Tensor = self.decoder(with_class(latent, None if one_hot is None else stress * one_hot))
        return images

    def infer(self, images: Tensor, check: bool = False) -> Tensor:
        """Return the latent of each image, shape ``(N, latent)``, differentiable; ``check`` as for ``align``."""
        return align(
            self.latent_to_image(),
            images,
            torch.zeros(1, self.latent, device=self.device, dtype=self.dtype),
            steps=self.options.steps,
            step_size=self.log_step_sizes.exp(),
            check=check,
        )

    def latent_to_image(self) -> Decoder | Chain:
        """Return the decoder as a function of the latent alone, with zeros in the place of the label."""
        if not self.classes:
            return self.decoder
        first, *following = self.decoder
        first = cast(nn.Linear, first)
        return Chain([Affine(first.weight[:, : self.latent], first.bias), *following])

    @torch.no_grad()
    def _begin_at_unit_scale(self) -> None:
        """Scale the step sizes so that the latents of uniform noise have standard deviation 1 after one step."""
        noise = torch.rand(64, *self.image_shape, generator=torch.Generator().manual_seed(0), device="cpu")
        scale = self.infer(noise.to(self.device, self.dtype)).std()
        self.log_step_sizes.sub_(scale.clamp_min(1e-8).log())

    def optimizers(self) -> dict[str, Optimizer]:  # noqa: D102
        return {"decoder": self.adam([*self.decoder.parameters(), self.log_step_sizes])}

    def training_step(self, images: Tensor, labels: Tensor | None, updates: Updates) -> None:
        """Take one update on the reconstruction error, through the gradient that encodes."""
        one_hot = self.one_hot(labels if self.classes else None, len(images))

        def loss() -> Loss:
            latent = self.infer(images, check=updates.done == 0)
            error = squared_error(images, self.decoder(with_class(latent, one_hot))).mean()
            return Loss(error, {"reconstruction": error.detach()})

        updates.take("decoder", loss, self.options.clip_gradient)
