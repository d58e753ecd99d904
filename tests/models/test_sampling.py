"""The samplers of a model: fitted when it is trained, saved with it, chosen by name or by likelihood."""

from __future__ import annotations

import json

import pytest
import torch

from feature_alignment.data import load
from feature_alignment.models import AE, FA, GAN, VAE, VFA, Local, Model
from feature_alignment.models import sampling as room

SMALL = {"latent": 3, "channels": (4, 4), "width": 8}


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def digits():
    train = load("mnist-mini", "train")
    return train.pixels[::10], train.labels[::10]


@pytest.mark.parametrize(("kind", "classes"), [(AE, 0), (VAE, 10), (VFA, 10), (VFA, 0)])
def test_every_model_with_latents_has_samplers_that_are_saved_with_it(kind, classes, digits, tmp_path):
    model = kind((1, 28, 28), **SMALL, classes=classes, sampler="best").eval()
    model.fit_samplers(*digits)
    assert set(model.samplers) == set(model.samplers.likelihoods) == {"normal", "gaussian", "mixture", "flow"}
    model.save_pretrained(tmp_path)
    loaded = Model.from_pretrained(tmp_path)
    assert loaded.samplers.likelihoods == model.samplers.likelihoods
    labels = torch.arange(6) if classes else None
    for name in (*model.samplers, "best", None):
        drawn = [each.sample(6, labels, generator=torch.Generator().manual_seed(1), sampler=name)
                 for each in (model, loaded)]  # fmt: skip
        assert torch.equal(*drawn)
    best = max(model.samplers.likelihoods, key=model.samplers.likelihoods.get)
    assert loaded.sampler() is loaded.samplers[best]
    assert not [name for name, _ in model.named_parameters() if "sampler" in name]


def test_which_sampler_is_used_without_a_name(digits):
    for kind, asked, expected in ((VAE, None, "normal"), (VAE, "mixture", "mixture"), (AE, None, "best")):
        model = kind((1, 28, 28), **SMALL, sampler=asked)
        assert model.sampler() is model.samplers["normal"]  # not fitted yet
        model.fit_samplers(*digits)
        assert "flow" not in model.samplers
        likelihoods = model.samplers.likelihoods
        assert (
            model.sampler() is model.samplers[max(likelihoods, key=likelihoods.get) if expected == "best" else expected]
        )


def test_the_posterior_is_drawn_from_not_its_mean(digits):
    model = VAE((1, 28, 28), **SMALL)
    with torch.no_grad():
        model.log_variance.weight.zero_()
        model.log_variance.bias.fill_(4.0)
    model.fit_samplers(*digits)
    variance = model.samplers["gaussian"].draw(20_000).var(0)
    means = model.encode(model.as_floats(digits[0])).var(0)
    torch.testing.assert_close(variance, means + torch.tensor(4.0).exp(), rtol=0.25, atol=0)


def test_a_missing_library_costs_its_sampler_only(digits, monkeypatch):
    def missing(self, latents, labels=None):
        raise room.MissingExtra("the sampler mixture: needs sklearn: pip install 'feature-alignment[samplers]'")

    monkeypatch.setattr(room.SAMPLERS["mixture"], "fit", missing)
    model = AE((1, 28, 28), **SMALL)
    with pytest.warns(UserWarning, match=r"the sampler mixture is left out: .*feature-alignment.samplers"):
        model.fit_samplers(*digits)
    assert model.sampler() is model.samplers["gaussian"]


def test_no_class_is_held_out_from_the_samplers():
    """Whatever the order: classes that take turns, and a class of one in a place that would be held out."""
    for labels in (torch.arange(1000) % 10, (torch.arange(1000) == 109).long()):
        means = 5.0 * torch.arange(10)[:, None].expand(-1, 2)
        latents, samplers = means[labels] + 0.1 * torch.randn(1000, 2), room.Samplers(2, int(labels.max()) + 1)
        samplers.fit(latents, labels)
        drawn = samplers["mixture"].draw(50, torch.full((50,), int(labels.max())))
        assert (drawn.mean(0) - means[labels.max()]).abs().max() < 0.5
        assert torch.equal(samplers.most_likely_class(latents), labels)


def test_a_sampler_that_needs_more_latents_is_missed_and_a_model_without_a_prior_takes_the_best(digits):
    model = AE((1, 28, 28), **SMALL, sampler="flow")
    with pytest.warns(UserWarning, match="the sampler flow is left out: it needs 100 latents, and there are 81"):
        model.fit_samplers(digits[0][:90])
    assert model.sampler() is model.sampler("best")
    assert model.sampler() is not model.samplers["normal"]
    with pytest.warns(UserWarning, match="the sampler mixture is left out: a GAN draws latents from N"):
        GAN((1, 28, 28), **SMALL, sampler="mixture").fit_samplers(*digits)


def test_bad_names_are_refused_in_a_line(digits):
    model = VAE((1, 28, 28), **SMALL)
    model.fit_samplers(*digits)
    with pytest.raises(
        ValueError, match=r"sampler: expected one of normal, gaussian, mixture, flow, best, got 'gauss'"
    ):
        model.sample(2, sampler="gauss")
    with pytest.raises(
        ValueError, match=r"this model was saved with normal, gaussian, mixture; train with --model.sampler"
    ):
        model.sample(2, sampler="flow")
    with pytest.raises(ValueError, match=r"sampler: expected one of normal, .*, got 'x'"):
        VAE((1, 28, 28), **SMALL, sampler="x")


def test_a_gan_draws_from_its_prior_alone(digits, tmp_path):
    model = GAN((1, 28, 28), **SMALL)
    model.fit_samplers(*digits)
    assert list(model.samplers) == ["normal"]
    model.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["samplers"] == {}


def test_latents_that_are_not_finite_and_samplers_of_before_are_left_behind(digits):
    model = AE((1, 28, 28), **SMALL, sampler="flow")
    model.fit_samplers(*digits)
    assert set(model.samplers) == {"normal", "gaussian", "mixture", "flow"}
    model.samplers.fit(torch.randn(50, 3))  # too few for a flow
    assert set(model.samplers) == {"normal", "gaussian", "mixture"}
    with pytest.warns(UserWarning, match=r"no sampler is fitted: there are latents that are not finite"):
        model.samplers.fit(torch.full((50, 3), torch.nan))
    assert set(model.samplers) == {"normal"}
    assert model.sampler() is model.samplers["normal"]


def test_labels_that_do_not_fit_are_named_and_leave_the_samplers_as_they_are(digits):
    model = VAE((1, 28, 28), **SMALL, classes=10, sampler="gaussian").eval()
    model.fit_samplers(*digits)
    fitted, images = model.sampler(), digits[0][:30]
    for labels, message in (
        (digits[1][:20], r"labels: expected shape \(30,\), got \(20,\)"),
        (digits[1][:30] + 10, "labels: expected 0 to 9, got 1[0-9] to 1[0-9]"),
        (None, "labels: expected the class of each latent, 0 to 9, got none"),
    ):
        with pytest.raises(ValueError, match=message):
            model.fit_samplers(images, labels)
        assert model.sampler() is fitted is model.samplers["gaussian"]
    for labels in (torch.tensor([-1, 0]), torch.tensor([0, 10])):
        with pytest.raises(ValueError, match="labels: expected 0 to 9, got"):
            model.prior(2, labels=labels, sampler="mixture")
    with pytest.raises(ValueError, match=r"labels: expected shape \(5,\), got \(2,\)"):
        model.prior(5, labels=torch.tensor([0, 1]), sampler="mixture")
    with pytest.warns(UserWarning, match="no sampler is fitted: there is one latent only"):
        model.fit_samplers(images[:1], digits[1][:1])


@pytest.mark.parametrize("start", ["normal", "uniform"])
def test_a_start_of_noise_is_drawn_by_the_generator(start):
    model = FA((1, 28, 28), **SMALL, start=start).eval()
    state = torch.get_rng_state()
    one, two, three = (model.sample(2, generator=torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(one, two)
    assert not torch.equal(one, three)
    assert torch.equal(state, torch.get_rng_state())
    assert not torch.equal(model.decode(torch.zeros(1, 3)), model.decode(torch.zeros(1, 3)))


def test_a_state_dict_has_all_that_chooses_the_sampler(digits):
    model, other = AE((1, 28, 28), **SMALL).eval(), AE((1, 28, 28), **SMALL).eval()
    unfitted = other.state_dict()
    model.fit_samplers(*digits)
    other.load_state_dict(model.state_dict())
    assert model.sampler() is not model.samplers["normal"]
    drawn = [each.sample(4, generator=torch.Generator().manual_seed(1)) for each in (model, other)]
    assert torch.equal(*drawn)
    model.load_state_dict(unfitted)  # and back: what was fitted to other weights is gone
    assert list(model.samplers) == ["normal"]
    assert model.sampler() is model.samplers["normal"]


@pytest.mark.parametrize("kind", [FA, Local])
def test_a_class_that_does_not_change_what_is_decoded_is_inferred_from_the_latents(kind):
    model = kind((1, 28, 28), **SMALL, classes=3).eval()
    centres = torch.tensor([[-5.0, 0, 0], [0, 5, 0], [5, 0, 5]])
    labels = torch.arange(60) % 3
    latents = centres[labels] + 0.1 * torch.randn(60, 3)
    images = torch.rand(60, 1, 28, 28)
    model.encode = lambda given, labels=None: latents[: len(given)]
    with pytest.raises(ValueError, match="the class does not change what this model decodes, and no sampler"):
        model.infer_labels(images)
    assert model.assumed_labels(images).tolist() == [0] * 60
    assert torch.equal(model.reconstruct(images), model.decode(latents, labels))
    model.samplers.fit(latents, labels)
    assert torch.equal(model.infer_labels(images), labels)
    assert torch.equal(model.assumed_labels(images), labels)


def test_a_gan_that_is_not_given_the_class_has_none():
    model = GAN((1, 16, 16), **SMALL, classes=3).eval()
    assert model.classes == 0
    with pytest.raises(ValueError, match="labels: this GAN was built without classes and takes none"):
        model.sample(2, torch.tensor([0, 1]))
    assert model.encode(torch.rand(0, 1, 16, 16)).shape == (0, 3)


def test_labels_that_are_no_tensor_are_refused(digits):
    model = VFA((1, 28, 28), **SMALL, classes=10).eval()
    model.fit_samplers(*digits)
    with pytest.raises(TypeError, match="labels: expected a tensor, got list"):
        model.sample(2, [0, 1], sampler="mixture")
