"""Samplers: one contract over all of them, and what each is fitted to."""

from __future__ import annotations

import pytest
import torch

from feature_alignment.samplers import SAMPLERS, Gaussian, Normal


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_draws_what_its_state_and_the_generator_say(name):
    sampler, twin = SAMPLERS[name](4), SAMPLERS[name](4)
    latents, labels = torch.randn(50, 4) * 3 - 1, torch.randint(3, (50,))
    sampler.fit(latents, labels)
    twin.load_state_dict(sampler.state_dict())
    drawn = [
        each.draw(5, torch.zeros(5, dtype=torch.long), torch.Generator().manual_seed(7)) for each in (sampler, twin)
    ]
    assert drawn[0].shape == (5, 4)
    assert torch.equal(*drawn)
    assert not torch.equal(sampler.draw(5), sampler.draw(5))
    before = {name: value.clone() for name, value in sampler.state_dict().items()}
    sampler.fit(latents * 2, labels)
    changed = any(not torch.equal(before[name], value) for name, value in sampler.state_dict().items())
    assert changed == sampler.learns


def test_normal_is_standard():
    drawn = Normal(3).draw(50_000)
    torch.testing.assert_close(drawn.mean(0), torch.zeros(3), atol=0.03, rtol=0)
    torch.testing.assert_close(drawn.T.cov(), torch.eye(3), atol=0.03, rtol=0)


def test_gaussian_has_the_mean_and_the_covariance_of_the_latents():
    mixing = torch.tensor([[1.0, 0.5, 0.0], [0.0, 2.0, -1.0], [0.0, 0.0, 0.3]])
    latents = torch.randn(2000, 3) @ mixing + torch.tensor([4.0, -2.0, 0.5])
    sampler = Gaussian(3)
    sampler.fit(latents)
    centred = (latents - latents.mean(0)).double()
    covariance = centred.T @ centred / 1999
    torch.testing.assert_close((sampler.root.T @ sampler.root).double(), covariance, rtol=1e-5, atol=1e-5)
    drawn = sampler.draw(100_000)
    torch.testing.assert_close(drawn.mean(0), latents.mean(0), atol=0.03, rtol=0)
    torch.testing.assert_close(drawn.T.cov().double(), covariance, atol=0.06, rtol=0.03)


def test_gaussian_takes_latents_that_span_less_than_the_space_and_refuses_one():
    sampler, line = Gaussian(3), torch.randn(20, 1) * torch.tensor([[1.0, 2.0, 3.0]])
    sampler.fit(line)
    drawn = sampler.draw(100)
    torch.testing.assert_close(drawn[:, 1], 2 * drawn[:, 0], atol=1e-3, rtol=1e-3)
    with pytest.raises(ValueError, match="latents: expected two or more to estimate a covariance, got 1"):
        sampler.fit(line[:1])
    one = Gaussian(1)
    one.fit(torch.randn(10, 1))
    assert one.draw(2).shape == (2, 1)
