"""The residual refiner: where it begins, what it is given, what it refuses."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from feature_alignment.models.residual_refiner import ResidualRefiner


def test_it_begins_as_the_identity_and_learns_to_use_the_label():
    torch.manual_seed(0)
    refiner = ResidualRefiner((3, 16, 16), filters=4, kernel_size=5, classes=3)
    images, one_hot = torch.rand(2, 3, 16, 16).clamp(0.01, 0.99), torch.eye(3)[:2]
    torch.testing.assert_close(refiner(images, one_hot), images)
    nn.init.normal_(refiner.last[1].weight)
    refined, other = refiner(images, one_hot), refiner(images, one_hot.flip(0))
    assert refined.min() >= 0
    assert refined.max() <= 1
    assert not torch.allclose(refined, other)
    torch.testing.assert_close(refiner(images[:1], one_hot[:1]), refined[:1])  # of each image by itself


def test_a_correction_with_a_period_of_two_pixels_is_removed_and_a_constant_one_is_not():
    refiner, images = ResidualRefiner((1, 16, 16), filters=4).double(), torch.rand(2, 1, 16, 16).double()
    images = images.clamp(0.01, 0.99)
    inside = (..., slice(1, -1), slice(1, -1))
    for columns_rows in ([1.0, -1.0, 1.0, -1.0], [1.0, 1.0, -1.0, -1.0], [1.0, -1.0, -1.0, 1.0]):  # of a 2 x 2 block
        refiner.last[1].bias.data = torch.tensor(columns_rows).double()
        torch.testing.assert_close(refiner(images)[inside], images[inside])
    nn.init.constant_(refiner.last[1].bias, 0.5)
    torch.testing.assert_close(refiner(images)[inside].logit(), images[inside].logit() + 0.5)


@pytest.mark.parametrize("bias", [10.0, -300.0])
def test_a_correction_beyond_the_bound_is_scaled_down_and_lets_a_gradient_lead_back(bias):
    images = torch.rand(3, 1, 8, 8, dtype=torch.double).clamp(0.01, 0.99)
    free, bounded = (ResidualRefiner((1, 8, 8), filters=4, bound=bound).double() for bound in (1e9, 3.0))
    bounded.load_state_dict(free.state_dict())
    for refiner in (free, bounded):
        nn.init.constant_(refiner.last[1].bias, bias)
    change, most = (refiner(images).logit() - images.logit() for refiner in (bounded, free))
    rms = most.square().mean((1, 2, 3), keepdim=True).sqrt()
    if bias == 10:  # at -300 the free one has no correction to compare with
        torch.testing.assert_close(change, most * 3.0 / rms)
    torch.testing.assert_close(change.square().mean((1, 2, 3)).sqrt(), torch.full((3,), 3.0).double())
    slopes = [torch.autograd.grad(each(images)[0, 0, 3, 3], each.last[1].weight)[0].norm() for each in (free, bounded)]
    assert slopes[1] > 1e-5
    assert slopes[1] > 100 * slopes[0]


def test_it_refuses_by_name():
    with pytest.raises(ValueError, match="needs the labels"):
        ResidualRefiner((1, 8, 8), 4, classes=3)(torch.rand(1, 1, 8, 8))
    with pytest.raises(ValueError, match="kernel_size: expected an odd number, got 4"):
        ResidualRefiner((1, 8, 8), kernel_size=4)
    with pytest.raises(ValueError, match="sides divisible by 2, got 7 x 7"):
        ResidualRefiner((1, 7, 7))


@pytest.mark.parametrize("dtype", [torch.float32, torch.half, torch.bfloat16])
def test_white_and_black_pixels_can_be_corrected_in_any_precision(dtype):
    refiner = ResidualRefiner((1, 8, 8), filters=4, bound=6.0)
    torch.nn.init.constant_(refiner.last[1].bias, -5.0)
    found = refiner.to(dtype)(torch.ones(1, 1, 8, 8, dtype=dtype))[..., 2:-2, 2:-2]
    torch.testing.assert_close(
        found.float(), torch.full_like(found, 1 / (1 + math.exp(5) / 999)).float(), rtol=1e-2, atol=0
    )
