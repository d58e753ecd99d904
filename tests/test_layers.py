"""The convolution with a pull-back of its own, against PyTorch's."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.autograd import gradcheck, gradgradcheck
from torch.func import functional_call, hessian, jacfwd, jacrev, jvp, vjp, vmap

from feature_alignment import align
from feature_alignment.layers import Conv2d

GEOMETRIES = [
    {"kernel_size": 3, "stride": 1, "padding": 1},
    {"kernel_size": 3, "stride": 2, "padding": 1},
    {"kernel_size": (3, 2), "stride": (2, 3), "padding": (0, 1), "dilation": (2, 1)},
    {"kernel_size": 3, "stride": 2, "padding": 1, "groups": 2, "bias": False},
]


def pair(**geometry):
    torch.manual_seed(0)
    ours = Conv2d(2, 4, **geometry).double()
    theirs = nn.Conv2d(2, 4, **geometry).double()
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs, torch.randn(3, 2, 8, 7, dtype=torch.double)


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_values_and_derivatives_of_every_order_are_those_of_torch(geometry):
    ours, theirs, images = pair(**geometry)
    images.requires_grad_()
    assert torch.equal(ours(images), theirs(images))
    inputs = (images, *ours.parameters())

    def function(x, *parameters):
        return functional_call(ours, dict(zip(dict(ours.named_parameters()), parameters, strict=True)), (x,))

    assert gradcheck(function, inputs, check_forward_ad=True, check_batched_grad=True)
    assert gradgradcheck(function, inputs)


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_functional_transforms(geometry):
    ours, theirs, images = pair(**geometry)
    one, tangent = images[:1], torch.randn_like(images)
    assert torch.allclose(jacrev(ours)(one), jacrev(theirs)(one))
    assert torch.allclose(jacfwd(ours)(one), jacrev(theirs)(one))
    assert torch.allclose(jvp(ours, (images,), (tangent,))[1], jvp(theirs, (images,), (tangent,))[1])

    def curved(layer):
        return lambda x: layer(x).square().sum()

    assert torch.allclose(hessian(curved(ours))(one), hessian(curved(theirs))(one))
    many = torch.randn(5, *ours(one).shape, dtype=torch.double)
    pulled = [vmap(vjp(layer, one)[1])(many)[0] for layer in (ours, theirs)]
    assert torch.allclose(*pulled)


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("steps", [1, 3])
def test_alignment_and_its_gradients_are_the_same_with_either(shared, steps):
    ours, theirs, images = pair(**GEOMETRIES[1])
    gradients = []
    for layer in (ours, theirs):
        network = nn.Sequential(layer, nn.Softplus(), nn.Flatten())
        start = torch.zeros_like(images[: 1 if shared else None])
        feature = align(network, network(images), start, steps=steps, step_size=0.3)
        gradients.append(torch.autograd.grad((images - feature).square().sum(), list(network.parameters())))
    for got, wanted in zip(*gradients, strict=True):
        assert torch.allclose(got, wanted)


def test_under_autocast_the_gradients_are_right_to_its_precision():
    torch.manual_seed(0)
    images = torch.rand(16, 1, 8, 8)
    network = nn.Sequential(
        Conv2d(1, 8, 3, 2, 1), nn.LeakyReLU(), Conv2d(8, 8, 3, 1, 1), nn.Flatten(), nn.Linear(128, 8)
    )

    def gradient():
        latent = network(images)
        feature = align(network, latent.float(), torch.zeros(1, 1, 8, 8))
        loss = (images - feature).square().flatten(1).sum(1).mean()
        return torch.cat([each.flatten() for each in torch.autograd.grad(loss, list(network.parameters()))])

    exact = gradient()
    with torch.autocast("cpu", torch.bfloat16):
        rounded = gradient()
    assert rounded.dtype == torch.float32
    assert 1e-5 < float((rounded - exact).norm() / exact.norm()) < 3e-2


def test_layers_of_torch_and_their_weights_are_interchangeable():
    ours, theirs, _ = pair(kernel_size=3, padding="same", padding_mode="circular")
    assert isinstance(ours, nn.Conv2d)
    images = torch.rand(1, 2, 8, 8, dtype=torch.double)
    assert torch.equal(ours(images), theirs(images))
    assert torch.equal(ours(images[0]), theirs(images[0]))
