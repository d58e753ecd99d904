"""The layers with a pull-back of their own, against PyTorch's."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.autograd import gradcheck, gradgradcheck
from torch.func import functional_call, hessian, jacfwd, jacrev, jvp, vjp, vmap
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode

from feature_alignment import align
from feature_alignment.layers import Conv2d, LeakyReLU

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


# --- LeakyReLU --------------------------------------------------------------------------------------


@pytest.mark.parametrize("slope", [0.01, 0.3, 0.0, -0.5, 1.5])
def test_leaky_relu_has_the_values_and_derivatives_of_torch(slope):
    torch.manual_seed(0)
    ours, theirs = LeakyReLU(slope), nn.LeakyReLU(slope)
    x = torch.randn(3, 4, 5, dtype=torch.double, requires_grad=True)
    assert torch.equal(ours(x), theirs(x))
    assert gradcheck(ours, x, check_forward_ad=True, check_batched_grad=True)
    assert gradgradcheck(ours, x)
    if slope >= 0:  # with a negative one, zero has no side it belongs to
        edge = torch.tensor([0.0, -0.0, 5e-324, -5e-324, math.inf, -math.inf], dtype=torch.double, requires_grad=True)
        gradients = [torch.autograd.grad(layer(edge).nan_to_num().sum(), edge)[0] for layer in (ours, theirs)]
        assert torch.equal(*gradients)


def test_leaky_relu_under_functional_transforms():
    torch.manual_seed(0)
    ours, theirs = LeakyReLU(0.2), nn.LeakyReLU(0.2)
    one, many = torch.randn(1, 6, dtype=torch.double), torch.randn(5, 1, 6, dtype=torch.double)
    assert torch.equal(jacrev(ours)(one), jacrev(theirs)(one))
    assert torch.equal(jacfwd(ours)(one), jacrev(theirs)(one))
    assert torch.equal(vmap(vjp(ours, one)[1])(many)[0], vmap(vjp(theirs, one)[1])(many)[0])

    def curved(layer):
        return lambda x: layer(x).square().sum()

    assert torch.allclose(hessian(curved(ours))(one), hessian(curved(theirs))(one))
    assert torch.allclose(jacfwd(jacfwd(curved(ours)))(one), hessian(curved(theirs))(one))


def test_leaky_relu_adds_up_no_zeros_over_the_batch_and_does_not_keep_its_input():
    torch.manual_seed(0)
    counted, kept = [], []

    class Sums(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            if function.overloadpacket is torch.ops.aten.sum:
                counted.append(tuple(args[0].shape))
            return function(*args, **(kwargs or {}))

    for activation in (nn.LeakyReLU(), LeakyReLU()):
        network = nn.Sequential(nn.Linear(6, 5, bias=False), activation, nn.Linear(5, 4, bias=False))
        images = torch.rand(3, 6)
        feature = align(network, network(images), torch.zeros(1, 6), check=False)
        counted.clear()
        with Sums():
            (images - feature).square().sum().backward()
        kept.append(len([shape for shape in counted if shape[0] == 3 and shape[-1] == 5]))
    assert kept[0] > kept[1] == 0

    leaf = torch.ones(4, requires_grad=True)
    x = leaf * 2
    storage = StorageWeakRef(x.untyped_storage())
    y = LeakyReLU()(x)
    del x
    assert storage.expired()
    y.sum().backward()
    assert torch.equal(leaf.grad, torch.full((4,), 2.0))


def test_leaky_relu_in_place_and_compiled():
    x = torch.randn(8)
    wanted = nn.LeakyReLU(0.1)(x)
    assert torch.equal(torch.compile(LeakyReLU(0.1), backend="eager", fullgraph=True)(x), wanted)
    y = x.clone()
    assert LeakyReLU(0.1, inplace=True)(y) is y
    assert torch.equal(y, wanted)
