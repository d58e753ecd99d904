"""Training for steps beyond T, against Algorithm 1 typed out with plain automatic differentiation."""

from __future__ import annotations

import pytest
import torch
from reference import algorithm_1

from feature_alignment import align
from feature_alignment.data import load
from feature_alignment.models import FA, VFA, Updates

OPTIONS = {"latent": 5, "channels": (2, 3), "width": 12, "activation": "silu", "start": "layers", "squash": "every",
           "step_size": 4.0, "learn_step_size": True, "max_step": 2.0, "clamp_inputs": 0.0}  # fmt: skip


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def further(network, target, place, size, bound):
    """One more step of Algorithm 1 in logit space."""
    return algorithm_1(lambda r: network(r.sigmoid()), target, place, step_size=size, max_step=bound)


@pytest.mark.parametrize("done", [0, 3, 4])
def test_the_loss_and_its_gradients_are_those_of_the_formula(done):
    model = FA((1, 8, 8), **OPTIONS, steps=2, further_steps=4).double()
    with torch.no_grad():
        model.log_max_steps.copy_(torch.tensor([0.5, -3.0]))  # the second bound binds
        model.log_step_sizes.copy_(torch.tensor([0.7, 1.3]))
    images = torch.rand(17, 1, 8, 8, dtype=torch.float64)
    network = model.snapshot(len(images))
    loss, error, features = model.reconstruction(network, images, network.outputs(images), done)
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    found = torch.autograd.grad(loss, weights)

    encoder = torch.nn.Sequential(model.encoder, model.mean)
    sizes, bounds = model.log_step_sizes.exp(), model.log_max_steps.exp()
    target = encoder(images)
    place = model.layered_start(target)
    for size, bound in zip(sizes, bounds, strict=True):
        place = further(encoder, target, place, size, bound)
    expected_error = (images - place.sigmoid()).square().sum() / 17
    beyond, wanted = place[:3].detach(), target[:3]  # an eighth of the batch, rounded up
    for _ in range(done % 4):
        beyond = further(encoder, wanted, beyond, sizes[-1], bounds[-1]).detach()
    beyond = further(encoder, wanted, beyond, sizes[-1], bounds[-1])
    expected = 0.5 * (expected_error + (images[:3] - beyond.sigmoid()).square().sum() / 3)

    torch.testing.assert_close(features, place.sigmoid())
    torch.testing.assert_close((loss, error), (expected, expected_error))
    for one, other in zip(found, torch.autograd.grad(expected, weights), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-9)


def test_steps_beyond_those_trained_continue_with_the_last_size_and_bound():
    model = FA((1, 8, 8), **OPTIONS, steps=2, further_steps=4).double()
    with torch.no_grad():
        model.log_step_sizes.copy_(torch.tensor([0.7, 1.3]))
        latent = torch.randn(3, 5, dtype=torch.float64)
        network = model.snapshot(3)
        place = network.further(latent, network.further(latent, network.iterate(latent)))
        torch.testing.assert_close(model.feature(latent, steps=4), place.sigmoid())
        sizes = model.log_step_sizes.exp()[[0, 1, 1, 1]]
        plain = torch.nn.Sequential(model.encoder, model.mean)
        bounds = model.log_max_steps.exp()[[0, 1, 1, 1]]
        expected = align(plain, latent, model.layered_start, steps=4, step_size=sizes, max_step=bounds,
                         squash=torch.sigmoid)  # fmt: skip
        torch.testing.assert_close(model.feature(latent, steps=4), expected)


@pytest.mark.parametrize("start", [{}, {"start": "zeros", "max_step": None}])
def test_decoding_takes_as_many_steps_as_asked_for_and_training_does_not(start, tmp_path):
    options = OPTIONS | start
    torch.manual_seed(1)
    one = FA((1, 8, 8), **options, steps=1).eval()
    torch.manual_seed(1)
    more = FA((1, 8, 8), **options, steps=1, decode_steps=4).eval()
    latent, images = torch.randn(3, 5), torch.rand(3, 1, 8, 8)
    torch.testing.assert_close(more.decode(latent), one.feature(latent, steps=4).detach())
    assert (more.decode(latent) - one.decode(latent)).abs().max() > 1e-3
    torch.testing.assert_close(more.reconstruct(images), more.decode(more.encode(images)))
    losses = []
    for model in (one, more):
        updates = Updates(model.train(), 2)
        updates.step(images, None)
        losses.append(updates.terms["reconstruction"])
    assert torch.equal(*losses)
    more.eval().save_pretrained(tmp_path)
    loaded = FA.from_pretrained(tmp_path)
    assert loaded.options.decode_steps == 4
    torch.testing.assert_close(loaded.decode(latent), more.decode(latent))


def test_a_number_of_steps_that_cannot_be_taken_is_named():
    with pytest.raises(ValueError, match="decode_steps: expected at least 1, got 0"):
        FA((1, 8, 8), **(OPTIONS | {"start": "zeros"}), decode_steps=0)
    assert FA((1, 8, 8), **OPTIONS, decode_steps=0).eval().decode(torch.randn(2, 5)).shape == (2, 1, 8, 8)


@pytest.mark.slow
def test_features_of_a_model_trained_for_further_steps_keep_improving():
    """Held-out digits: at no number of steps is the error more than 1.05 times that after the T trained for."""
    train, test = load("mnist-mini", "train").images(), load("mnist-mini", "test").images(100)
    options = OPTIONS | {"channels": (8, 16), "width": 128, "latent": 32, "activate_width": True, "max_step": 20.0}
    model = FA((1, 28, 28), **options, steps=1, further_steps=15, learning_rate=2e-3, clip_gradient=10.0)
    updates = Updates(model, 150)
    while updates.done < 150:
        updates.step(train[(64 * updates.done + torch.arange(64)) % len(train)], None)
    with torch.no_grad():
        latent = model.encode(test)
        errors = [float((test - model.feature(latent, steps=steps)).square().sum() / 100) for steps in range(1, 17)]
    assert max(errors) <= 1.05 * errors[0]


def test_bad_options_are_named():
    for options, message in [
        ({"further_steps": -1}, "further_steps: expected at least 0, got -1"),
        ({"further_steps": 4, "steps": 0, "start": "layers", "squash": "every"}, "further_steps: 4 steps need one"),
        ({"further_steps": 4, "squash": "last"}, "a squash of every or none, got steps 1 and squash 'last'"),
    ]:
        with pytest.raises(ValueError, match=message):
            FA((1, 8, 8), latent=5, channels=(2, 3), width=12, **options)


def test_the_variational_model_trains_for_further_steps_too():
    train = load("mnist-mini", "train")
    model = VFA((1, 28, 28), **(OPTIONS | {"latent": 6}), classes=10, further_steps=3, start_branch="mean")
    plain = VFA((1, 28, 28), **(OPTIONS | {"latent": 6}), classes=10, start_branch="mean")
    plain.load_state_dict(model.state_dict())
    for each in (model, plain):
        torch.manual_seed(1)
        Updates(each, 1).step(train.images(16), train.labels[:16])
    assert not torch.equal(model.mean.weight, plain.mean.weight)
