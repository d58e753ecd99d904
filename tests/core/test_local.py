"""Algorithms 2 and 3 against a naive second implementation, exact inverses, and what is alive in memory."""

from __future__ import annotations

import copy
import gc
import math

import pytest
import torch
from reference import algorithm_2, algorithm_3
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef

from feature_alignment import align
from feature_alignment.core.local import Arcsinh, LocalNetwork, register_inverse
from feature_alignment.data import load


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def convolutional(**options):
    layers = [
        nn.Conv2d(2, 4, 3, 1, 1), Arcsinh(), nn.Conv2d(4, 5, 3, 2, 1), Arcsinh(), nn.Flatten(), nn.Linear(45, 7),
        nn.Linear(7, 6),
    ]  # fmt: skip
    return LocalNetwork(layers, (2, 6, 6), **options).double()


def optimizers_of(network, rate=1e-2, kind=torch.optim.SGD):
    return [kind(layer.parameters(), lr=rate) for layer in network.learning_layers()]


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Linear(6, 4), (6,)),
        (nn.Linear(6, 4, bias=False), (6,)),
        (nn.Conv2d(2, 3, 3, 1, 1), (2, 7, 7)),
        (nn.Conv2d(2, 3, 3, 2, 1), (2, 7, 8)),
        (nn.Conv2d(2, 3, 3, 2, 0, bias=False), (2, 8, 9)),
        (nn.Conv2d(4, 6, (3, 5), (2, 3), (1, 2), dilation=2, groups=2), (4, 15, 17)),
    ],
)
def test_transposed_layer_is_one_alignment_step_from_zero(layer, shape):
    layer = layer.double().requires_grad_(False)
    output = layer(torch.randn(3, *shape, dtype=torch.float64))
    expected = align(layer, output, torch.zeros(1, *shape, dtype=torch.float64), check=False)
    torch.testing.assert_close(LocalNetwork([layer], shape).double().run_backwards(output), expected)


@pytest.mark.parametrize("options", [{}, {"step_size": 0.3}, {"steps": 3, "step_size": 0.2}])
def test_local_step_is_algorithm_2(options):
    network, twin = convolutional(**options), convolutional(**options)
    twin.load_state_dict(network.state_dict())
    images = torch.rand(3, 2, 6, 6, dtype=torch.float64)
    output, losses = network.local_step(images, optimizers_of(network))
    expected_output, expected = algorithm_2(list(twin), images, 1e-2, **options)
    torch.testing.assert_close(output, expected_output)
    torch.testing.assert_close(torch.stack(losses), torch.stack(expected).detach())
    for mine, other in zip(network.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(mine, other)


@pytest.mark.parametrize("options", [{}, {"steps": 3, "step_size": 0.2}])
def test_the_way_back_is_algorithm_3(options):
    network = convolutional(**options)
    output = network(torch.rand(3, 2, 6, 6, dtype=torch.float64)).detach()
    shapes = [(2, 6, 6), (4, 6, 6), (4, 6, 6), (5, 3, 3), (5, 3, 3), (45,), (7,)]
    expected = algorithm_3(list(network), shapes, output, **options)
    torch.testing.assert_close(network.run_backwards(output), expected)


@pytest.mark.parametrize("layers", [0, 1, 4, 6, 7])
def test_the_first_layers_run_backwards_by_themselves(layers):
    network = convolutional()
    images = torch.rand(3, 2, 6, 6, dtype=torch.float64)
    output = nn.Sequential(*list(network)[:layers])(images).detach()
    found = network.backwards(output.requires_grad_(), layers)
    torch.testing.assert_close(found, algorithm_3(list(network)[:layers], network.shapes[:layers], output))
    assert found.requires_grad


def test_orthogonal_layers_are_inverted_exactly():
    layers = [nn.Linear(9, 9), Arcsinh(), nn.Flatten(), nn.Linear(9, 9), nn.Tanh(), nn.Linear(9, 9), nn.LeakyReLU(0.2)]
    network = LocalNetwork(layers, (9,)).double()
    for layer in network.learning_layers():
        nn.init.orthogonal_(layer.weight)
    x = torch.randn(4, 9, dtype=torch.float64)
    torch.testing.assert_close(network.run_backwards(network(x)), x)


def test_several_steps_invert_what_one_step_cannot():
    network = LocalNetwork([nn.Linear(6, 6)], (6,), steps=5000, step_size=0.5).double()
    x = torch.randn(2, 6, dtype=torch.float64)
    nn.init.orthogonal_(network[0].weight)
    with torch.no_grad():
        network[0].weight *= torch.linspace(0.4, 1.4, 6, dtype=torch.float64)
    torch.testing.assert_close(network.run_backwards(network(x)), x)


def test_while_a_layer_learns_nothing_of_the_others_is_alive():
    """Storage is followed where autograd would keep it, beyond the reach of Python's references."""
    network, seen, alive = convolutional(), {}, []
    layers = list(network)

    def remember(layer, inputs, output):
        seen[layers.index(layer)] = StorageWeakRef(output.untyped_storage())

    for layer in layers:
        layer.register_forward_hook(remember)

    class Watching(torch.optim.SGD):
        def step(self, closure=None):
            gc.collect()
            mine = next(
                i for i, each in enumerate(layers) if self.param_groups[0]["params"][0] in set(each.parameters())
            )
            # The input is the output of the layer before (a flattened one shares its storage with that one's input).
            allowed = {mine, mine - 1, mine - 2 if isinstance(layers[mine - 1], nn.Flatten) else mine}
            others = {index for index, storage in seen.items() if not storage.expired()} - allowed
            gradients = [
                i for i, each in enumerate(layers) if i != mine for p in each.parameters() if p.grad is not None
            ]
            alive.append((others, gradients))
            assert all(p.grad is not None for p in layers[mine].parameters() if p is layers[mine].weight)
            return super().step(closure)

    network.local_step(torch.rand(2, 2, 6, 6, dtype=torch.float64), optimizers_of(network, kind=Watching))
    assert alive == [(set(), [])] * 4

    # The same watch sees backpropagation keep everything.
    seen.clear()
    loss = network(torch.rand(2, 2, 6, 6, dtype=torch.float64)).square().sum()
    assert sum(not storage.expired() for storage in seen.values()) >= 4
    loss.backward()


@pytest.mark.slow
def test_training_makes_weights_orthogonal_and_digits_reversible():
    """Appendix A.2: the layer's rows tend to an orthonormal set, and the features to the digits."""
    images = load("mnist-mini", "train").images()
    held_out = load("mnist-mini", "test").images()
    network = LocalNetwork([nn.Flatten(), nn.Linear(784, 64), Arcsinh(), nn.Linear(64, 32)], (1, 28, 28))
    optimizers = optimizers_of(network, 1e-3, torch.optim.Adam)

    def errors():
        weight = network[1].weight.detach()
        gap = (weight @ weight.T - torch.eye(64)).norm()
        reconstruction = (held_out - network.run_backwards(network(held_out))).square().flatten(1).sum(1).mean()
        return float(gap), float(reconstruction)

    before = errors()
    for _ in range(4):
        for batch in images[torch.randperm(len(images))].split(64):
            network.local_step(batch, optimizers)
    after = errors()
    assert after[0] < 0.6 * before[0]
    assert after[1] < 30 < before[1]


def test_a_registered_activation_is_inverted():
    class Cube(nn.Module):
        def forward(self, x):
            return x**3

    with pytest.raises(TypeError, match=r"layers\[1\]: Cube is neither .* register_inverse\(\) adds one"):
        LocalNetwork([nn.Linear(3, 3), Cube()], (3,))
    register_inverse(Cube, lambda layer, y: y.sign() * y.abs() ** (1 / 3))
    network = LocalNetwork([nn.Linear(3, 3), Cube()], (3,)).double()
    nn.init.orthogonal_(network[0].weight)
    x = torch.randn(2, 3, dtype=torch.float64)
    torch.testing.assert_close(network.run_backwards(network(x)), x)


def test_an_input_stays_as_it_is_where_the_first_layer_works_in_place():
    network = LocalNetwork([nn.LeakyReLU(0.1, inplace=True), nn.Linear(4, 3)], (4,))
    x = torch.randn(5, 4)
    before = x.clone()
    network.local_step(x, optimizers_of(network))
    assert torch.equal(x, before)


def test_an_input_stays_as_it_is_behind_layers_that_pass_on_a_view_of_it():
    layers = [nn.Identity(), nn.Flatten(), nn.LeakyReLU(0.1, inplace=True), nn.Linear(8, 3)]
    network, x = LocalNetwork(layers, (2, 4)), torch.randn(5, 2, 4)
    before = x.clone()
    network.local_step(x, optimizers_of(network))
    assert torch.equal(x, before)


@pytest.mark.parametrize("options", [{}, {"steps": 3, "step_size": 0.2}])
@pytest.mark.parametrize(
    ("layer", "shape"),
    [(nn.Linear(60, 40), (60,)), (nn.Conv2d(2, 4, 3, 1, 1, padding_mode="circular"), (2, 6, 6))],
)
def test_a_bias_is_not_trained_on_rounding(layer, shape, options):
    """It cancels in the distance: even Adam, which makes whole steps of any gradient, leaves it where it is."""
    network = LocalNetwork([layer, nn.Identity()], shape, **options)
    before, x = layer.bias.detach().clone(), torch.randn(8, *shape)
    output, distance = network.layer_distance(layer, x)
    torch.testing.assert_close(output, layer(x))
    distance.backward()
    expected = (x - align(layer, layer(x), torch.zeros(1, *shape), check=False, **options or {})).square().sum()
    torch.testing.assert_close(distance, expected)
    (optimizer,) = optimizers_of(network, kind=torch.optim.Adam)
    with torch.autocast("cpu", torch.bfloat16):
        network.local_step(x, [optimizer])
    assert torch.equal(layer.bias.detach(), before)


class Scaled(nn.Linear):
    def forward(self, x):
        return 3 * super().forward(x)


@pytest.mark.parametrize("own", ["forward", "hook"])
def test_a_layer_that_is_more_than_its_weights_is_run_backwards_as_it_is(own):
    layer = (Scaled if own == "forward" else nn.Linear)(6, 4).double()
    if own == "hook":
        layer.register_forward_hook(lambda module, inputs, output: 3 * output)
    network, x = LocalNetwork([layer], (6,)), torch.randn(5, 6, dtype=torch.float64)
    output = layer(x)
    expected = align(layer, output, torch.zeros(1, 6, dtype=torch.float64), check=False)
    torch.testing.assert_close(network.run_backwards(output.detach()), expected.detach())
    gradient = torch.autograd.grad((x - expected).square().sum() / 5, layer.weight)[0]
    before = layer.weight.detach().clone()
    network.local_step(x, optimizers_of(network, rate=1.0))
    torch.testing.assert_close(layer.weight.detach(), before - gradient)


def test_bad_input_is_named():
    with pytest.raises(ValueError, match=r"layers\[1\]: expected a LeakyReLU of a slope above 0.*negative_slope=0.0"):
        LocalNetwork([nn.Linear(6, 4), nn.LeakyReLU(0.0)], (6,))
    with pytest.raises(ValueError, match="steps: expected at least 1, got 0"):
        LocalNetwork([nn.Linear(6, 4)], (6,), steps=0)
    with pytest.raises(ValueError, match="step_size: expected a finite number greater than 0, got -1"):
        LocalNetwork([nn.Linear(6, 4)], (6,), step_size=-1.0)
    with pytest.raises(ValueError, match=r"layers\[1\]: Linear does not take an input of shape \(4,\)"):
        LocalNetwork([nn.Linear(6, 4), nn.Linear(5, 2)], (6,))
    network = convolutional()
    images = torch.zeros(2, 2, 6, 6, dtype=torch.float64)
    with pytest.raises(ValueError, match="optimizers: expected 4, one a learning layer, got 1"):
        network.local_step(images, optimizers_of(network)[:1])
    with pytest.raises(ValueError, match=r"x: expected shape \(N, 2, 6, 6\), got \(2, 1, 6, 6\)"):
        network.local_step(images[:, :1], optimizers_of(network))
    with pytest.raises(ValueError, match=r"z: expected shape \(N, 6\), got \(2, 5\)"):
        network.run_backwards(torch.zeros(2, 5, dtype=torch.float64))


@pytest.mark.parametrize("activation", [Arcsinh, nn.Tanh, nn.Sigmoid, nn.LeakyReLU])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_an_output_that_no_input_has_comes_back_finite(activation, dtype):
    """Eight nested hyperbolic sines overflow at an output of ten; the inverses are exact where there is one."""
    torch.manual_seed(0)
    layers = [layer for _ in range(8) for layer in (nn.Linear(12, 12), activation())]
    network = LocalNetwork(layers, (12,)).to(dtype)
    assert network.run_backwards(torch.tensor([-30.0, 1.5, 10.0] * 4, dtype=dtype)[None]).isfinite().all()
    inputs = torch.linspace(-3, 3, 24, dtype=torch.float64).view(2, 12)
    single = LocalNetwork([nn.Identity(), activation()], (12,))
    torch.testing.assert_close(single.run_backwards(single(inputs)), inputs)


def test_an_unlikely_output_gives_a_finite_loss_and_gradient_through_the_way_back():
    """With values up to the root of the largest number, their squares were infinite and the weights no numbers."""
    torch.manual_seed(0)
    layers = [nn.Flatten(), nn.Linear(784, 64), Arcsinh(), nn.Linear(64, 64), Arcsinh(), nn.Linear(64, 32)]
    network = LocalNetwork(layers, (1, 28, 28))
    loss = network.backwards(100 * network(torch.rand(4, 1, 28, 28))).square().sum()
    loss.backward()
    assert 1e9 < float(loss.detach()) < math.inf
    assert all(each.grad.isfinite().all() for each in network.parameters() if each.grad is not None)


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("make", [lambda: nn.Linear(72, 5), lambda: nn.Conv2d(2, 3, 3, 2, 1)])
def test_layers_of_parametrised_weights(make, steps):
    layer, x = make().double(), torch.randn(3, 2, 6, 6, dtype=torch.double)
    flat = x.flatten(1) if isinstance(layer, nn.Linear) else x
    plain = LocalNetwork([copy.deepcopy(layer)], flat.shape[1:], steps=steps, step_size=0.1)
    normed = LocalNetwork([nn.utils.parametrizations.weight_norm(layer)], flat.shape[1:], steps=steps, step_size=0.1)
    torch.testing.assert_close(normed.run_backwards(normed(flat)), plain.run_backwards(plain(flat)))
    (_, loss), before = normed.layer_distance(normed[0], flat), plain.layer_distance(plain[0], flat)[1]
    torch.testing.assert_close(loss, before)
    loss.backward()
    assert all(each.grad is not None for name, each in normed.named_parameters() if "bias" not in name)


@pytest.mark.parametrize("steps", [1, 2])
def test_hooks_on_a_weight_are_applied(steps):
    network = convolutional(steps=steps, step_size=0.3)
    network[0].weight.register_hook(torch.zeros_like)
    seen = []
    network[2].weight.register_post_accumulate_grad_hook(lambda weight: seen.append(weight.grad.norm()))
    before = network[0].weight.clone()
    network.local_step(torch.rand(3, 2, 6, 6, dtype=torch.float64), optimizers_of(network))
    assert torch.equal(network[0].weight, before)
    assert len(seen) == 1


@pytest.mark.parametrize("what", ["weight", "layer"])
def test_a_frozen_layer_stays_as_it_is_and_the_others_learn(what):
    network, free = convolutional(), convolutional()
    free.load_state_dict(network.state_dict())
    (network[2].weight if what == "weight" else network[2]).requires_grad_(False)
    x, frozen = torch.rand(3, 2, 6, 6, dtype=torch.float64), network[2].weight.clone()
    outputs = [each.local_step(x, optimizers_of(each)) for each in (network, free)]
    torch.testing.assert_close(*outputs)
    assert torch.equal(network[2].weight, frozen)
    for index in (0, 5, 6):
        torch.testing.assert_close(network[index].weight, free[index].weight)
    assert not torch.equal(network[2].weight, free[2].weight)


def test_optimisers_in_another_order_and_empty_batches_are_refused():
    network, x = convolutional(), torch.rand(3, 2, 6, 6, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"optimizers\[0\]: has no parameter of Conv2d\(2, 4.*in order"):
        network.local_step(x, optimizers_of(network)[::-1])
    with pytest.raises(ValueError, match="x: expected at least one input, got none"):
        network.local_step(x[:0], optimizers_of(network), micro_batch=2)
