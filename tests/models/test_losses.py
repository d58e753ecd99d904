"""The loss terms against torch.distributions and against numbers worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.distributions import Normal
from torch.distributions import kl_divergence as reference_kl

from feature_alignment.models.adversarial import AdversarialOptions, adversarial_loss, discriminator_loss
from feature_alignment.models.losses import (
    critic_loss,
    generator_loss,
    gradient_penalty,
    kl_divergence,
    perceptual_distance,
    squared_error,
)
from feature_alignment.models.networks import Discriminator


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


def test_relativistic_losses_by_hand():
    real, fake = torch.tensor([1.0, 0.0]), torch.tensor([-1.0, 2.0])
    terms = [math.log(1 + math.exp(each)) for each in (-1 - 1, 2 - 0)]
    assert critic_loss(real, fake, "relativistic").item() == pytest.approx(sum(terms) / 2)
    terms = [math.log(1 + math.exp(each)) for each in (1 + 1, 0 - 2)]
    assert generator_loss(fake, "relativistic", real).tolist() == pytest.approx(terms)
    with pytest.raises(ValueError, match="scores of real images"):
        generator_loss(fake, "relativistic")


@pytest.mark.parametrize("classes", [0, 3])
def test_r3gans_loss_is_that_of_automatic_differentiation(classes):
    """Scores, R1 and R2 and all gradients, in float64, of our own discriminator and of one that is a function."""
    torch.manual_seed(0)
    discriminator = Discriminator((1, 8, 8), (4,), 12, "silu", activate_width=True, classes=classes).double()
    real, fake = torch.rand(3, 1, 8, 8, dtype=torch.float64), torch.rand(3, 1, 8, 8, dtype=torch.float64)
    one_hot = torch.eye(3, dtype=torch.float64) if classes else None
    options = AdversarialOptions(adversarial="relativistic", penalty_weight=0.7)

    def plain(images, given):
        hidden = discriminator[0](images)
        scores = discriminator[1](hidden)
        return scores[:, 0] if given is None else scores[:, 0] + (given @ scores[:, 1:].T).diagonal()

    real.requires_grad_(), fake.requires_grad_()
    of_real, of_fake = plain(real, one_hot), plain(fake, one_hot)
    expected = nn.functional.softplus(of_fake - of_real).mean()
    for images, scores in ((real, of_real), (fake, of_fake)):
        (slope,) = torch.autograd.grad(scores.sum(), images, create_graph=True)
        expected = expected + 0.35 * slope.square().sum((1, 2, 3)).mean()
    loss = discriminator_loss(discriminator, options, real, fake, one_hot).total
    torch.testing.assert_close(loss, expected)
    weights = list(discriminator.parameters())
    found = torch.autograd.grad(loss, weights, allow_unused=True, materialize_grads=True)
    torch.testing.assert_close(found, torch.autograd.grad(expected, weights, materialize_grads=True))
    generators = nn.functional.softplus(of_real - of_fake).mean()
    torch.testing.assert_close(adversarial_loss(discriminator, options, fake, real, one_hot), generators)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"adversarial": "hinge"}, "adversarial: expected one of .*relativistic, got 'hinge'"),
        ({"augment": ["flip"]}, "augment: expected any of translation, cutout, got 'flip'"),
        ({"average_weights": 1.0}, "average_weights: expected at least 0 and below 1, got 1.0"),
        ({"penalty_weight": -1.0}, "penalty_weight: expected at least 0, got -1"),
    ],
)
def test_adversarial_options_refuse_by_name(options, message):
    with pytest.raises(ValueError, match=message):
        AdversarialOptions(**options)


def test_the_penalty_has_a_weight_for_each_kind():
    kinds = ("least-squares", "wasserstein", "wasserstein-gp", "relativistic")
    digits, colour = torch.rand(2, 1, 28, 28), torch.rand(2, 3, 56, 56)
    assert [AdversarialOptions(adversarial=kind).penalty(digits) for kind in kinds] == [0, 0, 10, 1]
    assert [AdversarialOptions(adversarial=kind).penalty(colour) for kind in kinds] == [0, 0, 10, 12]
    assert [AdversarialOptions(adversarial=kind, penalty_weight=3).penalty(colour) for kind in kinds] == [0, 0, 3, 3]
    assert AdversarialOptions(adversarial="relativistic", penalty_weight=0).penalty(digits) == 0


def test_a_gradient_penalty_of_images_generated_in_half_precision():
    """As under autocast: the interpolates are in the dtype of the real images."""
    weights, real = torch.randn(12), torch.rand(5, 1, 3, 4)
    fake = torch.rand(5, 1, 3, 4, dtype=torch.bfloat16)
    found = gradient_penalty(lambda x: x.flatten(1) @ weights, real, fake)
    torch.testing.assert_close(found, (weights.norm() - 1).square())
