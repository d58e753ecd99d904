"""The loss terms against torch.distributions and against numbers worked out by hand."""

from __future__ import annotations

import pytest
import torch
from torch.distributions import Normal
from torch.distributions import kl_divergence as reference_kl

from feature_alignment.models.losses import (
    critic_loss,
    generator_loss,
    gradient_penalty,
    kl_divergence,
    perceptual_distance,
    squared_error,
)


def test_kl_divergence_agrees_with_torch_distributions_and_is_a_penalty():
    torch.manual_seed(0)
    mean, log_variance = torch.randn(5, 7, dtype=torch.float64), torch.randn(5, 7, dtype=torch.float64)
    expected = reference_kl(Normal(mean, (0.5 * log_variance).exp()), Normal(torch.zeros(()), torch.ones(()))).sum(1)
    torch.testing.assert_close(kl_divergence(mean, log_variance), expected)
    assert kl_divergence(torch.zeros(1, 3), torch.zeros(1, 3)).item() == 0
    assert (expected > 0).all()


def test_squared_error_sums_over_pixels_and_keeps_the_batch():
    assert squared_error(torch.zeros(2, 3, 4, 4), torch.full((2, 3, 4, 4), 0.5)).tolist() == [12.0, 12.0]


def test_adversarial_losses_by_hand():
    real, fake = torch.tensor([1.0, 0.0]), torch.tensor([-1.0, 2.0])
    assert generator_loss(fake).tolist() == [4.0, 1.0]  # (1 - D)^2
    assert critic_loss(real, fake).item() == pytest.approx((0 + 1) / 2 + (0 + 9) / 2)  # equation 6
    assert generator_loss(fake, "wasserstein").tolist() == [1.0, -2.0]
    assert critic_loss(real, fake, "wasserstein").item() == pytest.approx(0.5 - 0.5)


def test_gradient_penalty_of_a_linear_critic():
    weight = torch.tensor([3.0, 4.0])  # gradient of norm 5 everywhere
    penalty = gradient_penalty(lambda x: x @ weight, torch.rand(6, 2), torch.rand(6, 2))
    assert penalty.item() == pytest.approx(16.0, rel=1e-5)


def test_perceptual_distance_by_hand():
    mean, log_variance = torch.tensor([[1.0, 2.0]]), torch.tensor([[0.0, 0.0]])
    other_mean, other = torch.tensor([[0.0, 2.0]]), torch.log(torch.tensor([[4.0, 1.0]]))
    assert perceptual_distance(mean, log_variance, other_mean, other).item() == pytest.approx(1 + (1 - 2) ** 2)
    assert perceptual_distance(mean, log_variance, other_mean, other, "variance").item() == pytest.approx(1 + 9)
