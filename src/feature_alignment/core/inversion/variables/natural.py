r"""Variables in which images with the spectrum and the colours of photographs are likely."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .base import Variables
from .pixels import logit

__all__ = ["Natural"]

#: Luminance, then red against blue and green against both; rows of unit length, orthogonal.
OPPONENTS = ((1.0, 1.0, 1.0), (1.0, 0.0, -1.0), (1.0, -2.0, 1.0))
#: Standard deviations of the three in photographs, relative to luminance.
STRENGTHS = (1.0, 0.35, 0.2)


class Natural(Variables):
    r"""Images in (0, 1) like photographs: :math:`r = \operatorname{sigmoid}(C F^{-1} G F u)`.

    :math:`F` is the Fourier transform, :math:`G` the amplitude :math:`1 / \max(f, 1/S)` of natural images at the
    frequency :math:`f` in cycles per pixel, :math:`S` the longest side (D. J. Field, *J. Opt. Soc. Am. A* 4, 1987);
    :math:`C` maps luminance and two opponent colours, of the relative strengths 1, 0.35 and 0.2, to three channels. Any
    other number of channels is taken as it is. White noise :math:`u` of unit variance gives logits of about unit
    variance: 1 in the mean over the channels.

    Inputs have the shape ``(N, C, ...)`` with any number and size of dimensions that are transformed, at least one.

    Args:
        exponent: of the frequency in the amplitude: 1 for natural images, 0 for white noise.
        squash: whether the sigmoid is applied; otherwise inputs are not bounded.

    Raises:
        ValueError: an exponent that is not finite or negative.

    Example:
        >>> natural = Natural()
        >>> image = torch.rand(1, 3, 48, 40).clamp(0.02, 0.98)
        >>> torch.allclose(natural.forward(natural.inverse(image)), image, atol=1e-4)
        True
    """

    def __init__(self, exponent: float = 1.0, *, squash: bool = True) -> None:
        if not (math.isfinite(exponent) and exponent >= 0):
            raise ValueError(f"exponent: expected a finite number of at least 0, got {exponent!r}")
        self.exponent, self.squash = exponent, squash

    def forward(self, u: Tensor) -> Tensor:
        """Return images for ``u``, of the same shape."""
        logits = self.logits(u)
        return logits.sigmoid() if self.squash else logits

    def logits(self, u: Tensor) -> Tensor:
        """Return the logits of images for ``u``, linear in it; without ``squash`` the images."""
        smooth = _filtered(u, gains(u.shape[2:], self.exponent, u))
        return torch.einsum("rc,nc...->nr...", colours(u), smooth) if u.shape[1] == 3 else smooth

    def inverse(self, r: Tensor) -> Tensor:
        """Return ``u`` for images in [0, 1] (clamped to [0.01, 0.99]), of the same shape."""
        if r.ndim < 3:
            raise ValueError(
                f"variables: natural ones are for images (N, C, H, W), got a start of shape {tuple(r.shape)}"
            )
        logits = logit(r) if self.squash else r
        if r.shape[1] == 3:
            back = torch.linalg.inv(colours(r.new_empty(0, dtype=torch.double)))
            logits = torch.einsum("cr,nr...->nc...", back.to(r), logits)
        return _filtered(logits, gains(r.shape[2:], self.exponent, r).reciprocal())


def gains(size: torch.Size, exponent: float, like: Tensor) -> Tensor:
    """Return the amplitude at every frequency of :func:`torch.fft.rfftn`, of mean square 1 over all frequencies."""
    whole = [torch.fft.fftfreq(side, dtype=torch.double) for side in size]
    squares = torch.zeros(()).double()
    for axis, frequencies in enumerate(whole):
        squares = squares + frequencies.square().view(-1, *[1] * (len(size) - 1 - axis))
    amplitude = squares.sqrt().clamp_min(1 / max(size)).pow(-exponent)
    amplitude = amplitude / amplitude.square().mean().sqrt()
    return amplitude[..., : size[-1] // 2 + 1].to(like)


def colours(like: Tensor) -> Tensor:
    """Return the map from luminance and opponent colours to channels, shape ``(3, 3)``; its rows have norms near 1."""
    opponents = torch.tensor(OPPONENTS, dtype=torch.double)
    strengths = torch.tensor(STRENGTHS, dtype=torch.double)
    columns = (opponents / opponents.norm(dim=1, keepdim=True)).T * strengths
    found: Tensor = columns * math.sqrt(3) / strengths.norm()
    return found.to(like)


def _filtered(u: Tensor, gain: Tensor) -> Tensor:
    if not len(u):
        return u  # the FFT refuses an empty batch
    size = u.shape[2:]
    axes = tuple(range(2, u.ndim))
    wide = u.to(torch.promote_types(u.dtype, torch.float32))  # in half precision there is no FFT on a CPU
    found: Tensor = torch.fft.irfftn(torch.fft.rfftn(wide, dim=axes) * gain, s=size, dim=axes)
    return found.to(u.dtype)
