r"""Variables fitted to images: the pre-image nearest to the mean is the most likely one under a Gaussian.

With :math:`r = m + P u` and :math:`P P^\top = \Sigma`, the density of :math:`\mathcal N(m, \Sigma)` falls with
:math:`\lVert u \rVert`: of all pre-images the one with the least norm is the most likely. For a linear network
:math:`E(r) = A r` it is :math:`m + \Sigma A^\top (A \Sigma A^\top)^{-1} (z - A m)`.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ...structures import wide
from .base import Variables, same_size
from .pixels import logit

__all__ = ["COVARIANCES", "Gaussian", "fit"]

#: The most numbers of an image for which ``auto`` estimates the whole covariance.
WHOLE = 4096

#: A linear map and its inverse, on a batch of images.
Map = Callable[[Tensor], Tensor]


class Gaussian(Variables):
    r"""Inputs :math:`r = m + P u`, or its sigmoid, with the mean and covariance of images: see :func:`fit`.

    Args:
        mean: :math:`m` (of the logits, if ``squash``), shape ``(1, ...)``.
        forward_map: :math:`P`, a symmetric root of the covariance.
        inverse_map: :math:`P^{-1}`.
        squash: whether the sigmoid is applied.
    """

    def __init__(self, mean: Tensor, forward_map: Map, inverse_map: Map, *, squash: bool = False) -> None:
        self.mean, self.forward_map, self.inverse_map, self.squash = mean, forward_map, inverse_map, squash
        self.start = torch.zeros_like(mean)

    def forward(self, u: Tensor) -> Tensor:
        """Return inputs, of the shape of ``u``."""
        r = self.mean.to(u) + self.forward_map(u)
        return r.sigmoid() if self.squash else r

    def logits(self, u: Tensor) -> Tensor:
        """Return what a change of ``u`` changes of the logits, or of the inputs without ``squash``: :math:`P u`."""
        return self.forward_map(u)

    def inverse(self, r: Tensor) -> Tensor:
        """Return ``u`` for inputs of the fitted size; ValueError for another."""
        same_size("these Gaussian variables", r.shape[1:], self.mean.shape[1:])
        return self.inverse_map((logit(r) if self.squash else r) - self.mean.to(r))


def fit(
    images: Tensor, covariance: str = "auto", *, rank: int = 256, floor: float = 1e-3, squash: bool = False
) -> Gaussian:
    r"""Fit mean and covariance to images; the covariance is divided by ``N - 1``.

    Args:
        images: shape ``(N, ...)``, at least two, floating point; for ``stationary``, ``(N, C, ...)``.
        covariance: ``full``, for up to a few thousand numbers an image; ``stationary``, the power spectrum, a Hermitian
            matrix of channels per frequency, about a mean image; ``low_rank``, the leading principal components;
            ``auto``: ``full`` up to 4,096 numbers an image, above that ``stationary`` for shapes ``(N, C, ...)`` and
            ``low_rank`` for others.
        rank: the most components of ``low_rank``.
        floor: added to the variance in every direction, as a share of the mean variance, so that every image can be
            reached; greater than 0.
        squash: fit the logits of images in [0, 1], clamped to [0.01, 0.99], and apply the sigmoid.

    Returns:
        Variables for images of this size, on their device, of which the start is the mean.

    Raises:
        TypeError, ValueError: no floating-point tensor of at least two different images, finite; an unknown covariance;
            ``rank`` or ``floor`` out of range.

    Example:
        >>> images = torch.randn(500, 1, 2, 2, dtype=torch.double)
        >>> variables = fit(images, floor=1e-9)
        >>> P = variables.forward(torch.eye(4).double().view(4, 1, 2, 2)) - variables.mean
        >>> torch.allclose(P.flatten(1).mT @ P.flatten(1), images.flatten(1).T.cov(), atol=1e-6)
        True
    """
    _check(images, covariance, rank, floor)
    if covariance == "auto":
        spatial = "stationary" if images.ndim > 2 else "low_rank"
        covariance = "full" if images[0].numel() <= WHOLE else spatial
    if squash and not bool(((images >= 0) & (images <= 1)).all()):
        raise ValueError(
            f"images: expected values in [0, 1] to squash, got {float(images.min()):.3g} to {float(images.max()):.3g}"
        )
    data = wide(logit(images) if squash else images)  # sums of squares overflow in half precision
    mean = data.mean(0, keepdim=True)
    centred = data - mean
    variance = float(centred.square().sum() / (len(data) - 1) / mean.numel())
    if not variance > 0:
        raise ValueError(f"images: expected at least two different ones, got {len(images)} that are all the same")
    maps = COVARIANCES[covariance](centred, floor * variance, rank)
    return Gaussian(mean.to(images.dtype), *maps, squash=squash)


def _check(images: Tensor, covariance: str, rank: int, floor: float) -> None:
    if not isinstance(images, Tensor) or not images.is_floating_point():
        kind = images.dtype if isinstance(images, Tensor) else type(images).__name__
        raise TypeError(f"images: expected a floating-point tensor, got {kind}")
    if images.ndim < 2 or len(images) < 2:
        raise ValueError(f"images: expected shape (N, ...), N at least 2, got {tuple(images.shape)}")
    if not bool(torch.isfinite(images).all()):
        raise ValueError(f"images: {int((~torch.isfinite(images)).sum())} non-finite values")
    if covariance not in ("auto", *COVARIANCES):
        raise ValueError(f"covariance: expected one of {', '.join(('auto', *COVARIANCES))}, got {covariance!r}")
    if covariance == "stationary" and images.ndim < 3:
        raise ValueError(f"images: a stationary covariance is of shape (N, C, ...), got {tuple(images.shape)}")
    if rank < 1:
        raise ValueError(f"rank: expected at least 1, got {rank!r}")
    if not (math.isfinite(floor) and floor > 0):
        raise ValueError(f"floor: expected a finite number greater than 0, got {floor!r}")


def _full(centred: Tensor, floor: float, rank: int) -> tuple[Map, Map]:
    data = centred.flatten(1).double()
    values, vectors = torch.linalg.eigh(data.T @ data / (len(data) - 1))
    roots = (values.clamp_min(0) + floor).sqrt()

    def times(scale: Tensor) -> Map:
        matrix = ((vectors * scale) @ vectors.T).to(centred)
        return lambda u: (u.flatten(1) @ matrix.to(u)).view(u.shape)

    return times(roots), times(roots.reciprocal())


def _low_rank(centred: Tensor, floor: float, rank: int) -> tuple[Map, Map]:
    r""":math:`\sigma I + V (\max(\sigma, \sqrt{\Lambda + f}) - \sigma) V^\top`; f: floor."""
    data = centred.flatten(1).to(torch.promote_types(centred.dtype, torch.float32))
    kept = min(rank, *data.shape)
    _, values, vectors = torch.linalg.svd(data, full_matrices=False)
    variances = values.square() / (len(data) - 1)
    left = float(variances[kept:].sum()) / max(1, data.shape[1] - kept)
    noise = math.sqrt(left + floor)
    roots = (variances[:kept] + floor).clamp_min(noise**2).sqrt()
    directions = vectors[:kept].clone()  # without the others

    def times(within: Tensor, outside: float) -> Map:
        def apply(u: Tensor) -> Tensor:
            basis, flat = directions.to(u), u.flatten(1)
            found: Tensor = outside * flat + ((flat @ basis.T) * (within.to(u) - outside)) @ basis
            return found.view(u.shape)

        return apply

    return times(roots, noise), times(roots.reciprocal(), 1 / noise)


def _stationary(centred: Tensor, floor: float, rank: int) -> tuple[Map, Map]:
    axes, size = tuple(range(2, centred.ndim)), centred.shape[2:]
    spectrum = torch.fft.rfftn(centred.double(), dim=axes, norm="ortho").movedim(1, -1)  # (N, ..., C)
    power = torch.einsum("n...c,n...d->...cd", spectrum, spectrum.conj()) / (len(centred) - 1)
    values, vectors = torch.linalg.eigh(power)
    roots = (values.clamp_min(0) + floor).sqrt()

    def times(scale: Tensor) -> Map:
        matrix = (vectors * scale.unsqueeze(-2)) @ vectors.mH

        def apply(u: Tensor) -> Tensor:
            if not len(u):
                return u  # the FFT refuses an empty batch
            wide = u.to(torch.promote_types(u.dtype, torch.float32))  # in half precision there is no FFT on a CPU
            transformed = torch.fft.rfftn(wide, dim=axes).movedim(1, -1)
            mixed = torch.einsum("...cd,n...d->n...c", matrix.to(transformed), transformed)
            found: Tensor = torch.fft.irfftn(mixed.movedim(-1, 1), s=size, dim=axes)
            return found.to(u.dtype)

        return apply

    return times(roots), times(roots.reciprocal())


COVARIANCES: dict[str, Callable[[Tensor, float, int], tuple[Map, Map]]] = {
    "full": _full,
    "stationary": _stationary,
    "low_rank": _low_rank,
}
