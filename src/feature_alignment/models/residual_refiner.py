"""A refiner that corrects the feature and begins as the identity."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d

from ..core.bounds import bounded
from ..core.structures import wide
from .networks import orthogonal_

__all__ = ["ResidualRefiner"]


class ResidualRefiner(nn.Module):
    r"""A refiner that corrects the image's logits and begins as the identity.

    .. math::
        G(r) &= \operatorname{sigmoid}\bigl(\operatorname{logit}(r) + c \min(1, \rho / \operatorname{rms}(c))\bigr) \\
        c &= B * g(r, y), \qquad B = \tfrac1{16} \begin{pmatrix} 1 & 2 & 1 \\ 2 & 4 & 2 \\ 1 & 2 & 1 \end{pmatrix}

    with r kept in [0.001, 0.999]. g works at half the resolution, on 2 x 2 blocks of pixels as channels: a convolution,
    a residual block of two convolutions, each after a SiLU, and a last convolution that begins as zero. The filter B,
    with zeros around the image, removes patterns with a period of two pixels, the stride here and in the discriminator,
    which would show as dotted strokes. The bound :math:`\rho` on a correction keeps the image from where every pixel is
    black or white and no gradient leads back. No layer mixes the samples of a batch. A label enters as an extra image
    channel, a linear function of its one-hot vector.

    Args:
        image_shape: ``(C, H, W)``; sides divisible by 2.
        filters: filters of the hidden layers.
        kernel_size: odd.
        classes: number of classes, 0 for an unconditional refiner.
        bound: :math:`\rho`, on the root mean square of the correction of an image's logits.

    Shape:
        images ``(N, C, H, W)`` and one-hot labels ``(N, classes)`` to ``(N, C, H, W)`` in (0, 1).

    Raises:
        ValueError: an even kernel size, or an odd side.

    Example:
        >>> images = torch.rand(2, 1, 8, 8).clamp(0.01, 0.99)
        >>> torch.allclose(ResidualRefiner((1, 8, 8), filters=4)(images), images, atol=1e-6)
        True
    """

    smoothing: Tensor

    def __init__(
        self,
        image_shape: Sequence[int],
        filters: int = 128,
        kernel_size: int = 3,
        classes: int = 0,
        bound: float = 4.0,
    ) -> None:
        super().__init__()
        colours, height, width = image_shape
        if kernel_size % 2 == 0:
            raise ValueError(f"kernel_size: expected an odd number, got {kernel_size}")
        if height % 2 or width % 2:
            raise ValueError(f"image_shape: a residual refiner needs sides divisible by 2, got {height} x {width}")

        def convolution(inputs: int, outputs: int) -> nn.Conv2d:
            return nn.Conv2d(inputs, outputs, kernel_size, padding=kernel_size // 2)

        self.bound = bound
        self.label_channel = nn.Linear(classes, height * width) if classes else None
        self.first = nn.Sequential(nn.PixelUnshuffle(2), convolution(4 * (colours + bool(classes)), filters))
        self.block = nn.Sequential(nn.SiLU(), convolution(filters, filters), nn.SiLU(), convolution(filters, filters))
        self.apply(orthogonal_)
        last = convolution(filters, 4 * colours)
        for each in (last.weight, last.bias):
            assert each is not None
            nn.init.zeros_(each)
        self.last = nn.Sequential(nn.SiLU(), last, nn.PixelShuffle(2))
        weights = torch.tensor([0.25, 0.5, 0.25])
        self.register_buffer("smoothing", torch.outer(weights, weights).repeat(colours, 1, 1, 1))

    def forward(self, images: Tensor, one_hot: Tensor | None = None) -> Tensor:
        """Return the refined images; ``one_hot`` is required if and only if the refiner has classes."""
        inputs = images
        if self.label_channel is not None:
            if one_hot is None:
                raise ValueError("one_hot: this refiner was built with classes and needs the labels")
            inputs = torch.cat([images, self.label_channel(one_hot).view(-1, 1, *images.shape[2:])], 1)
        hidden = self.first(inputs)
        correction = self.last(hidden + self.block(hidden))
        correction = conv2d(correction, self.smoothing, padding=1, groups=len(self.smoothing))
        correction = bounded(wide(correction), self.bound)
        # In bfloat16 1 - 1e-3 is 1, whose logit is infinite.
        return (wide(images).clamp(1e-3, 1 - 1e-3).logit() + correction).sigmoid().to(images.dtype)
