"""Measures of reconstructions: squared error, PSNR and SSIM."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from ..extras import require
from .chunks import in_chunks

__all__ = ["SSIM_PADDING", "psnr", "reconstruction_error", "ssim"]

#: Pixels by which SSIM reflects an image at its border, half of its window of 11; images must be larger.
SSIM_PADDING = 5


def reconstruction_error(images: Tensor, reconstructions: Tensor) -> float:
    r"""Mean over images of :math:`\lVert x - \hat x \rVert_2^2`, summed over channels and pixels.

    Args:
        images, reconstructions: in [0, 1], shape ``(N, C, H, W)``.

    Raises:
        ValueError: the shapes differ.

    Example:
        >>> reconstruction_error(torch.zeros(3, 1, 2, 2), torch.full((3, 1, 2, 2), 0.5))
        1.0
    """
    return _mean(lambda one, two: (one - two).square().flatten(1).sum(1), images, reconstructions)


def psnr(images: Tensor, reconstructions: Tensor) -> float:
    r"""Mean over images of the peak signal-to-noise ratio, in dB.

    .. math::
        -10 \log_{10} \bigl(\lVert x - \hat x \rVert_2^2 / CHW\bigr)

    The ratio of an image is clamped to 100 dB, so that an exact reconstruction does not make the mean infinite.

    Args:
        images, reconstructions: in [0, 1], shape ``(N, C, H, W)``.

    Raises:
        ValueError: the shapes differ.

    Example:
        >>> round(psnr(torch.zeros(3, 1, 2, 2), torch.full((3, 1, 2, 2), 0.1)), 3)
        20.0
    """
    ratio = require("torchmetrics.functional.image", "train", "PSNR").peak_signal_noise_ratio

    def of_each(one: Tensor, two: Tensor) -> Tensor:
        ratios: Tensor = ratio(two, one, data_range=1.0, dim=(1, 2, 3), reduction="none")
        return ratios.clamp(max=100)

    return _mean(of_each, images, reconstructions)


def ssim(images: Tensor, reconstructions: Tensor) -> float:
    r"""Mean over images, channels and pixels of the structural similarity, at most 1.

    .. math::
        \frac{(2 \mu \hat\mu + c_1) (2 \sigma_{x \hat x} + c_2)}
             {(\mu^2 + \hat\mu^2 + c_1) (\sigma^2 + \hat\sigma^2 + c_2)}

    Means and covariances are weighted by a Gaussian window of 11 pixels with a standard deviation of 1.5;
    images are reflected at the border; :math:`c_1 = 0.01^2`, :math:`c_2 = 0.03^2`.

    Args:
        images, reconstructions: in [0, 1], shape ``(N, C, H, W)``, with sides of at least six pixels.

    Raises:
        ValueError: the shapes differ.
    """
    similarity = require("torchmetrics.functional.image", "train", "SSIM").structural_similarity_index_measure

    def of_each(one: Tensor, two: Tensor) -> Tensor:
        found: Tensor = similarity(two, one, data_range=1.0, reduction="none")
        return found

    return _mean(of_each, images, reconstructions)


def _mean(measure: Callable[[Tensor, Tensor], Tensor], images: Tensor, reconstructions: Tensor) -> float:
    """Return the mean over pairs, in float64."""
    if images.shape != reconstructions.shape:
        raise ValueError(f"reconstructions: expected shape {tuple(images.shape)}, got {tuple(reconstructions.shape)}")
    return float(in_chunks(lambda one, two: measure(one.double(), two.double()), images, reconstructions).mean())
