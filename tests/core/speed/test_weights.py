"""The gradient of a weight that is used several times, against the sum that autograd takes."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from feature_alignment import align
from feature_alignment.core import speed
from feature_alignment.core.pullback import vjp
from feature_alignment.core.speed import weights
from feature_alignment.core.speed.weights import Uses, uses_of


@pytest.fixture(autouse=True)
def _small_ones_too(monkeypatch):
    torch.manual_seed(0)
    monkeypatch.setattr(weights, "LARGE", 1)


def network():
    return nn.Sequential(nn.Linear(5, 7), nn.SiLU(), nn.Linear(7, 3, bias=False)).double()


def loss_of(layers, x, steps=2):
    target = layers(x)
    return (x - align(layers, target, torch.zeros_like(x), steps=steps, check=False)).square().sum()


def test_the_gradients_of_a_feature_are_the_same_and_so_are_their_derivatives():
    layers, x = network(), torch.randn(4, 5).double()
    found = []
    for on in (True, False):
        with speed.switched(on):
            first = torch.autograd.grad(loss_of(layers, x), list(layers.parameters()))
            differentiable = torch.autograd.grad(loss_of(layers, x), list(layers.parameters()), create_graph=True)
            second = torch.autograd.grad(sum(each.sin().sum() for each in differentiable), list(layers.parameters()))
        found.append([*first, *differentiable, *second])
    for got, wanted in zip(*found, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("optimizer", [torch.optim.Adam, torch.optim.SGD])
def test_a_plain_training_loop_in_which_the_last_graph_is_still_alive(optimizer):
    """`loss` holds the graph of the update before until it is bound again, after the next forward pass."""
    images, losses = torch.rand(3, 4, 5).double(), {}
    for on in (True, False):
        torch.manual_seed(1)
        layers = network()
        steps = optimizer(layers.parameters(), 0.05)
        with speed.switched(on):
            found = []
            for x in images:
                loss = loss_of(layers, x)
                steps.zero_grad()
                loss.backward()
                steps.step()
                found.append(loss.item())
        losses[on] = torch.tensor(found)
    torch.testing.assert_close(losses[True], losses[False], rtol=1e-11, atol=0)


class Products(TorchDispatchMode):
    """Shapes of matrix products."""

    def __init__(self):
        super().__init__()
        self.shapes = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        output = function(*args, **(kwargs or {}))
        if function is torch.ops.aten.mm.default:
            self.shapes.append(tuple(output.shape))
        return output


@pytest.mark.parametrize(("on", "count"), [(True, 2), (False, 5)])
def test_all_uses_in_a_graph_are_one_product(on, count):
    layers, x = network(), torch.randn(4, 5).double()
    with speed.switched(on):
        loss = loss_of(layers, x)
        with Products() as products:
            loss.backward()
    assert products.shapes.count((7, 5)) == count  # encoding, and in two steps evaluation and pull-back


def test_uses_outlive_neither_their_graph_nor_a_change_of_the_weight():
    layer, x = nn.Linear(5, 7), torch.randn(4, 5)
    output, pull = vjp(layer, x)
    uses = weakref.ref(uses_of(layer.weight, x))
    assert uses() is not None
    layer.weight.data = layer.weight.data + 1
    assert uses_of(layer.weight, x) is not uses()
    torch.testing.assert_close(vjp(layer, x)[0], layer(x))
    del output, pull
    gc.collect()
    assert uses() is None


def test_backward_twice_and_for_inputs_alone():
    layer, x = nn.Linear(5, 7).double(), torch.randn(4, 5).double().requires_grad_()
    output, pull = vjp(layer, x)
    pulled = pull(output.sin())
    uses = uses_of(layer.weight, x)
    plain = (layer(x).sin() @ layer.weight).square().sum()
    for _ in range(2):
        (of_x,) = torch.autograd.grad(pulled.square().sum(), x, retain_graph=True)
        torch.testing.assert_close(of_x, torch.autograd.grad(plain, x, retain_graph=True)[0])
        assert not uses.factors  # nothing is kept for a gradient that nobody asked for
        found = torch.autograd.grad(pulled.square().sum(), [layer.weight, layer.bias], retain_graph=True)
        wanted = torch.autograd.grad(plain, [layer.weight, layer.bias], retain_graph=True)
        for got, expected in zip(found, wanted, strict=True):
            torch.testing.assert_close(got, expected)
        assert not uses.factors


def test_recomputation_inside_a_backward_pass_does_not_interfere():
    layers, x = network(), torch.randn(4, 5).double()
    found = []
    for on in (True, False):
        with speed.switched(on):
            target = layers(x)
            feature = align(layers, target, torch.zeros_like(x), steps=3, recompute=True, check=False)
            found.append(torch.autograd.grad((x - feature).square().sum(), list(layers.parameters())))
    for got, wanted in zip(*found, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-11, atol=1e-12)


def test_where_it_gains_nothing_it_stands_back(monkeypatch):
    weight, x = torch.randn(7, 5, requires_grad=True), torch.randn(4, 5)
    assert isinstance(uses_of(weight, x), Uses)
    assert uses_of(weight, x.view(2, 2, 5)) is None
    assert uses_of(weight.detach(), x) is None
    with torch.no_grad():
        assert uses_of(weight, x) is None
    with speed.switched(False):
        assert uses_of(weight, x) is None
    monkeypatch.setattr(weights, "LARGE", 36)
    assert uses_of(weight, x) is None
