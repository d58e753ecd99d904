"""Training for steps beyond T, against Algorithm 1 typed out with plain automatic differentiation."""

from __future__ import annotations

import pytest
import torch
from reference import half_squared_distance

from feature_alignment import align
from feature_alignment.data import load
from feature_alignment.models import FA, VFA, Updates

OPTIONS = {"latent": 5, "channels": (2, 3), "width": 12, "activation": "silu", "start": "layers", "squash": "every",
           "step_size": 4.0, "learn_step_size": True, "max_step": 2.0, "clamp_inputs": 0.0}  # fmt: skip


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def step(network, target, place, size, bound):
    """One bounded step of equation 2 in logit space, each sample by itself."""
    moved = []
    for each, wanted in zip(place.split(1), target.split(1), strict=True):
        r = each if each.requires_grad else each.clone().requires_grad_()
        distance = half_squared_distance(network(r.sigmoid()), wanted)
        (slope,) = torch.autograd.grad(distance, r, create_graph=True)
        moved.append(r - slope * size * (bound / (size * slope).norm()).clamp(max=1))
    return torch.cat(moved)


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
        place = step(encoder, target, place, size, bound)
    expected_error = (images - place.sigmoid()).square().sum() / 17
    further, wanted = place[:3].detach(), target[:3]  # an eighth of the batch, rounded up
    for _ in range(done % 4):
        further = step(encoder, wanted, further, sizes[-1], bounds[-1]).detach()
    further = step(encoder, wanted, further, sizes[-1], bounds[-1])
    expected = 0.5 * (expected_error + (images[:3] - further.sigmoid()).square().sum() / 3)

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


def test_features_of_a_model_trained_for_further_steps_keep_improving():
    """Held-out digits; without further steps the same training ends above 1.05 times at some number of steps."""
    train, test = load("mnist-mini", "train").images(500), load("mnist-mini", "test").images(100)
    options = OPTIONS | {"channels": (4, 8), "width": 64, "latent": 16, "max_step": 20.0}
    model = FA((1, 28, 28), **options, steps=1, further_steps=15, learning_rate=3e-3, clip_gradient=10.0)
    updates = Updates(model, 60)
    while updates.done < 60:
        updates.step(train[torch.arange(32) + 7 * updates.done], None)
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
