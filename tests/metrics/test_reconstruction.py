"""Measures of reconstructions by hand, and against NumPy and SciPy in float64."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
import scipy.ndimage
import torch

from feature_alignment.metrics import psnr, reconstruction_error, ssim


def test_reconstruction_error_by_hand():
    assert reconstruction_error(torch.zeros(3, 1, 2, 2), torch.full((3, 1, 2, 2), 0.5)) == 1.0
    with pytest.raises(ValueError, match=r"expected shape \(3, 1, 2, 2\), got \(1, 1, 2, 2\)"):
        reconstruction_error(torch.zeros(3, 1, 2, 2), torch.zeros(1, 1, 2, 2))


def test_error_of_the_mean_image_is_what_the_digits_say(splits):
    train, test = splits
    error = reconstruction_error(test.images(), train.images().mean(0).expand(500, 1, 28, 28))
    pixels = np.asarray(test.pixels, np.float64) / 255
    expected = ((pixels - np.asarray(train.pixels, np.float64).mean(0) / 255) ** 2).sum((1, 2, 3)).mean()
    assert error == pytest.approx(expected, rel=1e-6)


def test_psnr_by_hand():
    images = torch.zeros(3, 2, 4, 4)
    reconstructions = torch.stack([torch.full((2, 4, 4), error) for error in (0.1, 0.01, 0.0)])
    # 20 and 40 dB, and the exact one counts as 100.
    assert psnr(images, reconstructions) == pytest.approx((20 + 40 + 100) / 3, rel=1e-6)
    reconstructions[1] = 0
    reconstructions[1, 0, 0, 0] = 1  # one of 32 values is off by 1
    assert psnr(images[:2], reconstructions[:2]) == pytest.approx((20 + 10 * np.log10(32)) / 2, rel=1e-6)


def by_definition_ssim(one, two):
    """SSIM of two channels in float64: SciPy's Gaussian window, cut off at 5 pixels, mirrored without the edge."""

    def blur(channel):
        return scipy.ndimage.gaussian_filter(channel, 1.5, mode="mirror", radius=5)

    mean, other = blur(one), blur(two)
    variances = blur(one**2) - mean**2 + blur(two**2) - other**2
    covariance = blur(one * two) - mean * other
    similarity = (2 * mean * other + 1e-4) * (2 * covariance + 9e-4)
    return (similarity / ((mean**2 + other**2 + 1e-4) * (variances + 9e-4))).mean()


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 8, 8), (1, 6, 9)])
def test_ssim_is_its_definition(shape, monkeypatch):
    monkeypatch.setattr("feature_alignment.metrics.chunks.CHUNK", 2)
    torch.manual_seed(0)
    images = torch.rand(5, *shape)
    reconstructions = (images + 0.2 * torch.randn_like(images)).clamp(0, 1)
    pairs = zip(images.double().flatten(0, 1), reconstructions.double().flatten(0, 1), strict=True)
    expected = np.mean([by_definition_ssim(one.numpy(), two.numpy()) for one, two in pairs])
    assert ssim(images, reconstructions) == pytest.approx(expected, rel=1e-6)
    assert ssim(images, images) == pytest.approx(1)
