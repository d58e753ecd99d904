"""The Gradient Origin Network against a naive one by automatic differentiation, in float64."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from feature_alignment.core.pullback import path_of
from feature_alignment.models import AE, GON, Updates

SMALL = {"image_shape": (1, 8, 8), "latent": 3, "channels": (4, 6), "width": 10}
#: With steps so large that the latents, and what the gradient of the gradient adds, are far from zero.
CASES = {
    "one step": {"step_size": 1e3},
    "kinks": {"activation": "leaky_relu", "step_size": 1e3},
    "two steps": {"steps": 2, "step_size": (1e3, 3e2)},
    "classes": {"classes": 4, "step_size": 1e3},
}


@pytest.fixture(params=CASES, name="model")
def model_of(request):
    torch.manual_seed(0)
    return GON(**SMALL, **CASES[request.param]).double()


def naive(model, images, labels=None, *, second_order=True):
    """Reconstructions: a latent for every image by itself, from the origin, by the gradient of half the distance."""
    reconstructions = []
    sizes = [size.exp() for size in model.log_step_sizes]
    for index in range(len(images)):
        image, z = images[index : index + 1], torch.zeros(1, model.latent, dtype=images.dtype, requires_grad=True)
        none = z.new_zeros(1, model.classes)
        for size in sizes:
            distance = 0.5 * (model.decoder(torch.cat([z, none], 1)) - image).square().sum()
            gradient = torch.autograd.grad(distance, z, create_graph=True)[0]
            z = z - size * (gradient if second_order else gradient.detach())
        given = none if labels is None else nn.functional.one_hot(labels[index : index + 1], model.classes).double()
        reconstructions.append(model.decoder(torch.cat([z, given], 1)))
    return torch.cat(reconstructions)


def batch(model):
    images = torch.rand(5, 1, 8, 8, dtype=torch.double)
    return images, torch.tensor([0, 3, 1, 2, 0]) if model.classes else None


def gradients(model, reconstructions, images):
    loss = (reconstructions - images).square().sum() / len(images)
    return torch.autograd.grad(loss, list(model.parameters()), allow_unused=True, materialize_grads=True)


def trained_by(model, images, labels):
    """The gradients of an update."""
    Updates(model, total=1).step(images, labels)
    return [parameter.grad for parameter in model.parameters()]


def test_it_reconstructs_as_the_naive_one(model):
    images, labels = batch(model)
    torch.testing.assert_close(model.reconstruct(images, labels), naive(model, images, labels).detach())


def test_an_update_follows_the_gradient_through_the_gradient(model):
    images, labels = batch(model)
    wanted = gradients(model, naive(model, images, labels), images)
    detached = gradients(model, naive(model, images, labels, second_order=False), images)
    found = trained_by(model, images, labels)
    for got, expected in zip(found, wanted, strict=True):
        torch.testing.assert_close(got, expected)
    weights = [(got, first) for got, first in zip(found, detached, strict=True) if got.ndim > 1]
    assert all((got - first).norm() > 0.01 * got.norm() for got, first in weights)


def test_the_gradient_of_the_loss_by_finite_differences():
    torch.manual_seed(0)
    model = GON((1, 4, 4), 2, channels=(2,), width=3).double()
    images, names = torch.rand(2, 1, 4, 4, dtype=torch.double), [name for name, _ in model.named_parameters()]

    class Loss(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self):
            return (self.model.decoder(self.model.infer(images)) - images).square().sum()

    loss = Loss()

    def of(*values):
        given = {f"model.{name}": value for name, value in zip(names, values, strict=True)}
        return torch.func.functional_call(loss, given, ())

    assert torch.autograd.gradcheck(of, tuple(p.detach().clone().requires_grad_() for p in model.parameters()))


def test_one_step_encodes_by_an_affine_map_and_every_image_by_itself():
    torch.manual_seed(0)
    model = GON(**SMALL).double()
    first, second = torch.rand(2, 4, 1, 8, 8, dtype=torch.double)
    mixed = model.encode(0.3 * first + 0.7 * second)
    torch.testing.assert_close(mixed, 0.3 * model.encode(first) + 0.7 * model.encode(second))
    torch.testing.assert_close(model.encode(first)[1:2], model.encode(first[1:2]))
    twice = GON(**SMALL, steps=2).double()
    mixed = twice.encode(0.3 * first + 0.7 * second)
    assert not torch.allclose(mixed, 0.3 * twice.encode(first) + 0.7 * twice.encode(second))


@pytest.mark.parametrize("classes", [0, 4])
@pytest.mark.parametrize("activation", ["leaky_relu", "silu"])
def test_every_layer_is_pulled_back_by_its_rule(activation, classes):
    model = GON(**SMALL, activation=activation, classes=classes)
    assert path_of(model.latent_to_image(), torch.zeros(1, 3)) == "rule"


def test_the_label_is_used_in_decoding_and_not_in_encoding():
    model = GON(**SMALL, classes=4)
    latent, one = torch.randn(2, 3), torch.tensor([1, 1])
    images = model.decode(latent, one)
    assert not torch.allclose(images, model.decode(latent, torch.tensor([2, 2])))
    assert not torch.allclose(images, model.decode(latent, one, stress=2.0))
    trained = trained_by(model, *[torch.rand(2, 1, 8, 8), one])[1][:, 3:]  # of the first layer, after the step size's
    assert trained[:, 1].abs().min() > 0
    assert trained[:, [0, 2, 3]].abs().max() == 0


def test_step_sizes_are_learned_unless_asked_otherwise():
    images = torch.rand(4, 1, 8, 8)
    for learned in (True, False):
        model = GON(**SMALL, steps=2, step_size=(2.0, 0.5), learn_step_size=learned)
        assert model.log_step_sizes.exp().tolist() == pytest.approx([2.0, 0.5])
        Updates(model, total=1).step(images)
        moved = model.log_step_sizes - torch.tensor([math.log(2.0), math.log(0.5)])
        assert bool((moved != 0).all()) == learned
        assert bool((moved != 0).any()) == learned


@pytest.mark.parametrize("activation", ["leaky_relu", "silu"])
@pytest.mark.parametrize(("channels", "steps"), [((4,), 1), ((4, 6, 8), 1), ((4, 6), 2)])
def test_by_default_latents_are_of_unit_scale_however_deep_the_decoder(channels, steps, activation):
    torch.manual_seed(1)
    sizes = SMALL | {"channels": channels, "latent": 8, "activation": activation, "steps": steps}
    assert GON(**sizes).encode(torch.rand(200, 1, 8, 8)).std() == pytest.approx(1, rel=0.25)
    assert GON(**sizes, step_size=1.0).encode(torch.rand(200, 1, 8, 8)).std() < 0.1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps: expected at least 1, got 0"),
        ({"steps": 2, "step_size": (1.0,)}, r"step_size: expected a positive number, or one for each of 2 steps"),
        ({"step_size": -1.0}, "step_size: expected a positive number"),
        ({"activation": "swish"}, "activation: expected one of leaky_relu.*'swish'"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        GON(**SMALL, **options)


def test_it_has_half_of_the_autoencoders_parameters():
    sizes = {"image_shape": (1, 28, 28), "latent": 16, "channels": (16, 32), "width": 512}
    count = {kind: sum(p.numel() for p in kind(**sizes).parameters()) for kind in (GON, AE)}
    assert (count[GON], count[AE]) == (pytest.approx(0.83e6, rel=0.01), pytest.approx(1.66e6, rel=0.01))
