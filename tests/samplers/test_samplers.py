"""Samplers: one contract over all of them, and what each is fitted to."""

from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

from feature_alignment.samplers import SAMPLERS, Flow, Gaussian, Mixture, Normal


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_draws_what_its_state_and_the_generator_say(name):
    sampler, twin = SAMPLERS[name](4), SAMPLERS[name](4)
    latents, labels = torch.randn(200, 4) * 3 - 1, torch.randint(3, (200,))
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


@pytest.mark.parametrize("name", ["normal", "gaussian", "mixture"])
def test_temperature_is_a_factor_on_the_distance_to_the_mean(name):
    sampler, labels = SAMPLERS[name](4, classes=2), torch.arange(400) % 2
    sampler.fit(torch.randn(400, 4) @ torch.randn(4, 4) + 20 * labels[:, None], labels)
    means, whole, half = (
        sampler.draw(50, labels[:50], torch.Generator().manual_seed(3), temperature) for temperature in (0.0, 1.0, 0.5)
    )
    assert len(means.unique(dim=0)) == (2 if name == "mixture" else 1)
    torch.testing.assert_close(half - means, 0.5 * (whole - means), atol=1e-5, rtol=1e-4)
    if name == "mixture":
        torch.testing.assert_close(means[labels[:50] == 1].mean() - means[labels[:50] == 0].mean(), torch.tensor(20.0),
                                   atol=0.5, rtol=0)  # fmt: skip


def test_temperature_of_a_flow_is_a_factor_on_its_noise():
    sampler, generator = SAMPLERS["flow"](2), torch.Generator()
    sampler.fit(torch.cat([torch.randn(300, 2), 0.3 * torch.randn(300, 2) + 4]))
    cool = [sampler.draw(500, None, generator.manual_seed(1), temperature) for temperature in (1.0, 0.5, 0.0)]
    density = [float(sampler.log_prob(each).mean()) for each in cool]
    assert density[0] < density[1]
    assert len(cool[2].unique(dim=0)) == 1


@pytest.mark.parametrize("name", SAMPLERS)
def test_no_latents_are_drawn_when_none_are_asked_for(name):
    sampler = SAMPLERS[name](4, 3)
    sampler.fit(torch.randn(200, 4), torch.arange(200) % 3) if sampler.learns else None
    assert sampler.draw(0).shape == (0, 4)


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
    with pytest.raises(ValueError, match="latents: expected 2 or more to fit to, got 1"):
        sampler.fit(line[:1])
    one = Gaussian(1)
    one.fit(torch.randn(10, 1))
    assert one.draw(2).shape == (2, 1)


def two_rings(count):
    """Latents of two classes: rings of radius 1 and 3, which no Gaussian fits."""
    labels = torch.arange(count) % 2
    angle = 6.2832 * torch.rand(count)
    radius = 1 + 2 * labels + 0.1 * torch.randn(count)
    return torch.stack([radius * angle.cos(), radius * angle.sin()], 1), labels


@pytest.mark.parametrize("name", ["mixture", "flow"])
def test_conditional_samplers_draw_each_class_and_beat_the_gaussian(name):
    latents, labels = two_rings(2000)
    sampler, plain = SAMPLERS[name](2, classes=2), Gaussian(2)
    sampler.fit(latents, labels)
    plain.fit(latents)
    fresh, known = two_rings(1000)
    assert sampler.log_prob(fresh, known).mean() > plain.log_prob(fresh).mean() + 0.5
    for label, radius in ((0, 1), (1, 3)):
        drawn = sampler.draw(500, torch.full((500,), label), torch.Generator().manual_seed(0))
        assert abs(drawn.norm(dim=1).median() - radius) < 0.25
    with pytest.raises(ValueError, match="labels: expected the class of each latent, 0 to 1, got none"):
        sampler.fit(latents)


@pytest.mark.parametrize("name", SAMPLERS)
def test_densities_integrate_to_one(name):
    latents, _ = two_rings(600)
    sampler = SAMPLERS[name](2)
    sampler.fit(latents)
    axis = torch.linspace(-9, 9, 301)
    grid = torch.cartesian_prod(axis, axis)
    assert abs(float(sampler.log_prob(grid).exp().sum()) * 0.06**2 - 1) < 0.02


def test_the_mixture_has_the_density_of_its_components():
    latents, labels = two_rings(400)
    sampler = Mixture(2, classes=2)
    sampler.fit(latents, labels)
    for label in (0, 1):
        components = MultivariateNormal(sampler.means[label].double(), scale_tril=sampler.roots[label].double())
        mixture = MixtureSameFamily(Categorical(sampler.weights[label].double()), components)
        expected = mixture.log_prob(latents.double())
        torch.testing.assert_close(sampler.log_prob(latents, torch.full((400,), label)), expected, rtol=1e-5, atol=1e-5)
    whole = (sampler.log_prob(latents, torch.zeros(400, dtype=torch.long)).exp()
             + sampler.log_prob(latents, torch.ones(400, dtype=torch.long)).exp()) / 2  # fmt: skip
    torch.testing.assert_close(sampler.log_prob(latents).exp(), whole)


def test_a_gaussian_has_the_density_of_its_moments():
    latents = torch.randn(300, 3) @ torch.tensor([[1.0, 0.5, 0.0], [0.0, 2.0, -1.0], [0.0, 0.0, 0.3]])
    sampler = Gaussian(3)
    sampler.fit(latents)
    expected = MultivariateNormal(latents.double().mean(0), latents.double().T.cov()).log_prob(latents.double())
    torch.testing.assert_close(sampler.log_prob(latents), expected, rtol=1e-4, atol=1e-4)


def test_a_class_of_few_latents_has_a_sampler_too():
    latents, labels = torch.randn(60, 3), torch.zeros(60, dtype=torch.long)
    labels[:2] = 1
    sampler = Mixture(3, classes=3)  # and the last class has none
    sampler.fit(latents, labels)
    for label in range(3):
        assert sampler.draw(20, torch.full((20,), label)).isfinite().all()


def test_a_flow_of_many_latents_follows_what_a_gaussian_cannot():
    base = torch.randn(2000, 12)
    bent = base.clone()
    bent[:, 7] += 2 * base[:, 0].square() - 2  # uncorrelated, but not independent
    sampler, plain = SAMPLERS["flow"](12), Gaussian(12)
    sampler.fit(bent[:1500])
    plain.fit(bent[:1500])
    assert sampler.log_prob(bent[1500:]).mean() > plain.log_prob(bent[1500:]).mean() + 0.2
    drawn = sampler.draw(4000, generator=torch.Generator().manual_seed(0))
    assert float(torch.stack([drawn[:, 0].square(), drawn[:, 7]]).corrcoef()[0, 1]) > 0.5
    whole = sampler.log_prob(drawn)
    assert whole.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_normal_draws_in_its_dtype(dtype):
    assert Normal(3).to(dtype).draw(2).dtype == dtype


@pytest.mark.parametrize("rotated", [False, True])
def test_latents_that_do_not_vary_add_as_much_to_the_likelihood_of_every_sampler(rotated):
    pytest.importorskip("sklearn")
    pytest.importorskip("zuko")
    angle = 6.28 * torch.rand(2000)
    ring = 3 * torch.stack([angle.cos(), angle.sin()], 1) + 0.1 * torch.randn(2000, 2)
    flat = torch.cat([ring, torch.zeros(2000, 2)], 1)
    if rotated:
        flat = flat @ torch.linalg.qr(torch.randn(4, 4))[0]
    gains = {}
    for kind in (Gaussian, Mixture, Flow):
        plain, within = kind(2), kind(4)
        plain.fit(ring)
        within.fit(flat)
        gains[kind] = float(within.log_prob(flat).mean() - plain.log_prob(ring).mean())
    assert gains[Mixture] == pytest.approx(gains[Gaussian], abs=0.5)
    assert gains[Flow] == pytest.approx(gains[Gaussian], abs=0.5)


@pytest.mark.parametrize("kind", [Gaussian, Mixture, Flow])
def test_what_latents_a_sampler_takes_is_the_same_for_all(kind):
    pytest.importorskip("sklearn")
    pytest.importorskip("zuko")
    sampler, latents = kind(2), torch.randn(150, 2)
    bad = latents.clone()
    bad[3, 1] = math.nan
    with pytest.raises(ValueError, match="latents: expected finite numbers"):
        sampler.fit(bad)
    sampler.fit(latents.clone().requires_grad_())
    with torch.inference_mode():
        kind(2).fit(latents + 0)
    with pytest.raises(ValueError, match=r"latents: expected shape \(N, 2\), got \(5, 1\)"):
        sampler.log_prob(latents[:5, :1])
    assert sampler.log_prob(latents[:0]).shape == (0,)


@pytest.mark.parametrize("latent", [1, 2, 3, 8])
@pytest.mark.parametrize("classes", [0, 2])
def test_a_flow_begins_as_the_identity(latent, classes):
    white = torch.randn(200, latent)
    context = torch.eye(2)[torch.arange(200) % 2] if classes else None
    found = Flow(latent, classes)._empty()(context).log_prob(white)
    expected = torch.distributions.Normal(0, 1).log_prob(white).sum(1)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_half_precision_does_not_round_the_likelihoods_among_which_the_best_is_chosen():
    sampler = Gaussian(4)
    sampler.fit(torch.randn(200, 4))
    for likelihood in (-5.001, -5.0009):  # equal in bfloat16
        sampler.likelihood.fill_(likelihood)
        found = sampler.bfloat16()
        assert (float(found.likelihood), found.draw(1).dtype) == (pytest.approx(likelihood, abs=1e-6), torch.bfloat16)
    assert sampler.to("meta").likelihood.is_meta
