"""Pull-backs of layers and chains, against PyTorch's derivatives of every order."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from torch import func, nn
from torch.autograd import gradcheck, gradgradcheck
from torch.func import functional_call
from torch.nn.modules.module import register_module_forward_hook
from torch.utils._python_dispatch import TorchDispatchMode

from feature_alignment import affine_map, align, input_gradient, invert, largest_singular_value
from feature_alignment.core.layers import Arcsinh, Cast
from feature_alignment.core.pullback import Chain, path_of, register_pull_back, vjp
from feature_alignment.core.speed.convolution import NarrowConv2d
from feature_alignment.core.speed.fusion import Affine
from feature_alignment.models.losses import gradient_penalty
from feature_alignment.models.networks import Discriminator, Encoder


class Tilted(nn.Conv2d):
    def forward(self, x):
        return super().forward(x) * x.mean((1, 2, 3), keepdim=True)


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.inside = nn.Conv2d(2, 2, 3, padding=1)

    def forward(self, x):
        return x + self.inside(x).tanh()


def kinky(slope):
    return nn.LeakyReLU(slope)


#: Layers for inputs of shape (N, 2, 8, 7), and the path that their derivatives take.
LAYERS = {
    "conv": (nn.Conv2d(2, 4, 3, 1, 1), "rule"),
    "conv of stride 2": (nn.Conv2d(2, 4, 3, 2, 1), "rule"),
    "conv of every kind": (nn.Conv2d(2, 4, (3, 2), (2, 3), (0, 1), (2, 1)), "rule"),
    "conv in groups": (nn.Conv2d(2, 4, 3, 2, 1, groups=2, bias=False), "rule"),
    "circular conv": (nn.Conv2d(2, 4, 3, padding=1, padding_mode="circular"), "rule"),
    "conv to the same size": (nn.Conv2d(2, 4, 3, padding="same"), "rule"),
    "spectral": (nn.utils.parametrizations.spectral_norm(nn.Conv2d(2, 3, 3)).eval(), "rule"),
    "conv of one's own": (Tilted(2, 4, 3), "torch.func"),
    "linear": (nn.Linear(7, 3), "rule"),
    "linear without bias": (nn.Linear(7, 3, bias=False), "rule"),
    "narrow conv": (NarrowConv2d(2, 1, 1), "rule"),
    "transposed conv": (nn.ConvTranspose2d(2, 3, 3, 2), "rule"),
    "transposed conv of every kind": (
        nn.ConvTranspose2d(2, 4, (3, 2), (2, 3), (0, 1), (1, 2), 2, True, (1, 2)),
        "rule",
    ),
    "transposed conv, padded by more than its stride": (nn.ConvTranspose2d(2, 3, 3, 1, 1, 2, dilation=3), "rule"),
    "flatten": (nn.Flatten(), "rule"),
    "flatten partly": (nn.Flatten(2), "rule"),
    "unflatten": (nn.Unflatten(2, (2, 4)), "rule"),
    "leaky": (kinky(0.1), "rule"),
    "leaky downwards": (kinky(-0.5), "rule"),
    "leaky, steep": (kinky(1.5), "rule"),
    "relu": (nn.ReLU(), "rule"),
    "relu6": (nn.ReLU6(), "rule"),
    "hardtanh": (nn.Hardtanh(-0.5, 0.7), "rule"),
    "gelu": (nn.GELU(), "rule"),
    "elu": (nn.ELU(), "rule"),
    "silu": (nn.SiLU(), "rule"),
    "softplus": (nn.Softplus(), "rule"),
    "arcsinh": (Arcsinh(), "rule"),
    "block": (Residual(), "torch.func"),
    "groups": (nn.GroupNorm(1, 2), "torch.func"),
    "chain": (nn.Sequential(nn.Conv2d(2, 2, 3), nn.Sequential(nn.Tanh(), Residual()), nn.Flatten()), "torch.func"),
}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("samples", [1, 3])
def test_pull_back_and_its_derivatives_are_those_of_torch(name, samples):
    torch.manual_seed(0)
    layer, path = LAYERS[name]
    layer = layer.double()
    x = torch.randn(samples, 2, 8, 7, dtype=torch.double, requires_grad=True)
    assert path_of(layer, x) == path
    weights = list(layer.parameters())
    output, pull = vjp(layer, x)
    rounding = 2**-52 if isinstance(layer, nn.ELU) else 0  # which is not PyTorch's expm1
    torch.testing.assert_close(output, layer(x), rtol=0, atol=rounding)
    cotangent = torch.randn(3, *output.shape[1:], dtype=torch.double, requires_grad=True)

    pulled = pull(cotangent)
    expanded = x.expand(3, -1, -1, -1)
    wanted = func.vjp(layer, expanded)[1](cotangent)[0]
    torch.testing.assert_close(pulled, wanted)

    weighting = torch.randn_like(pulled)
    inputs = [x, cotangent, *weights]
    found = []
    for result in (pulled, wanted):
        loss = (weighting * result.sin()).sum() + 0 * sum(each.sum() for each in inputs)
        found.append(torch.autograd.grad(loss, inputs, create_graph=True))
    for got, expected in zip(*found, strict=True):
        torch.testing.assert_close(got, expected)
    if any(getattr(layer, "output_padding", ())):
        return  # PyTorch fails at the third derivative of its own; ours is compared with finite differences below
    again = [
        torch.autograd.grad(sum(g.cos().sum() for g in first), inputs, allow_unused=True, materialize_grads=True)
        for first in found
    ]
    for got, expected in zip(*again, strict=True):
        torch.testing.assert_close(got, expected)


#: Layers, and the size of their input; the outputs of transposed convolutions are larger.
FINITE = {
    **dict.fromkeys(("conv of every kind", "conv in groups", "leaky", "softplus", "linear"), (8, 7)),
    **dict.fromkeys(("transposed conv of every kind", "transposed conv, padded by more than its stride"), (2, 3)),
}


@pytest.mark.parametrize("name", FINITE)
def test_pull_back_by_finite_differences(name):
    torch.manual_seed(0)
    layer = LAYERS[name][0].double()
    x = torch.randn(1, 2, *FINITE[name], dtype=torch.double, requires_grad=True)
    cotangent = torch.randn(2, *layer(x).shape[1:], dtype=torch.double, requires_grad=True)
    weight = [each for each in layer.parameters() if each.ndim > 1]

    def pulled(x, cotangent, *weight):
        if weight:
            (name,) = (name for name, each in layer.named_parameters() if each.ndim > 1)
            return functional_call(Pulled(layer), {f"layer.{name}": weight[0]}, (x, cotangent))
        return vjp(layer, x)[1](cotangent)

    assert gradcheck(pulled, (x, cotangent, *weight), check_forward_ad=True)
    assert gradgradcheck(pulled, (x, cotangent, *weight))


class Pulled(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x, cotangent):
        return vjp(self.layer, x)[1](cotangent)


def test_a_chain_may_end_in_any_structure():
    torch.manual_seed(0)
    weights = torch.randn(5, 4, dtype=torch.double)
    network = Chain(
        [torch.sigmoid, Affine(weights, torch.ones(5).double()), lambda h: {"up": h.exp(), "down": (h[:, :2],)}]
    )
    x = torch.randn(1, 4, dtype=torch.double)
    output, pull = vjp(network, x)
    torch.testing.assert_close(output["up"], (x.sigmoid() @ weights.T + 1).exp())
    cotangent = {"up": torch.randn(6, 5, dtype=torch.double), "down": (torch.randn(6, 2, dtype=torch.double),)}
    wanted = func.vjp(network, x.expand(6, -1))[1](cotangent)[0]
    torch.testing.assert_close(pull(cotangent), wanted)


def test_the_kink_belongs_to_the_side_that_torch_puts_it_on():
    edge = torch.tensor([[0.0, -0.0, 5e-324, -5e-324, math.inf, -math.inf]], dtype=torch.double)
    edge = torch.cat([edge, torch.tensor([[1.0, -1.0, 6.0, 3.0, -3.0, 2.5]], dtype=torch.double)], 1)
    for layer in (nn.LeakyReLU(0.2), nn.ReLU(), nn.LeakyReLU(-0.2), nn.Hardtanh(), nn.ReLU6(), nn.Hardsigmoid()):
        ones = torch.ones_like(edge)
        torch.testing.assert_close(vjp(layer, edge)[1](ones), func.vjp(layer, edge)[1](ones)[0])


@pytest.mark.parametrize("kind", [nn.LeakyReLU, nn.ReLU, nn.ReLU6, nn.ELU, nn.SiLU, nn.Hardswish, nn.Hardsigmoid])
@pytest.mark.parametrize("before", [nn.Identity(), nn.Flatten(), nn.Conv2d(2, 3, 3), nn.MaxPool2d(2), None])
@pytest.mark.parametrize("inside", [False, True])
def test_what_works_in_place_leaves_the_same(kind, before, inside):
    found = []
    for inplace in (False, True):
        torch.manual_seed(0)
        activation = kind(inplace=inplace)
        activation = Whole(activation) if inside else activation
        network = nn.Sequential(*([before] if before else []), activation, nn.Flatten()).double()
        images = torch.randn(3, 2, 8, 6, dtype=torch.double)
        target = network(images.clone()).detach()
        start = 0.1 * torch.randn(3, 2, 8, 6, dtype=torch.double)
        kept = start.clone()
        feature = align(network, target, start, steps=3, step_size=0.5)
        assert torch.equal(start, kept)
        align(network, target, start, steps=2, step_size="auto", recompute=True)
        assert torch.equal(start, kept)
        feature = align(network, target, start.requires_grad_(), steps=3, step_size=0.5)
        loss = (images - feature).square().sum()
        found.append([feature, *torch.autograd.grad(loss, [start, *network.parameters()])])
    for got, wanted in zip(*found, strict=True):
        torch.testing.assert_close(got, wanted)


class Whole(nn.Module):
    def __init__(self, inside):
        super().__init__()
        self.inside = inside

    def forward(self, x):
        return self.inside(x)


def test_hooks_and_patches_are_called():
    calls = []
    network = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2))
    network[0].register_forward_hook(lambda *_: calls.append("hook"))
    twice = network[2].forward
    network[2].forward = lambda x: calls.append("patch") or 2 * twice(x)
    x, cotangent = torch.randn(2, 4), torch.randn(2, 2)
    output, pull = vjp(network, x)
    assert calls == ["hook", "patch"]
    torch.testing.assert_close(output, network(x))
    torch.testing.assert_close(pull(cotangent), func.vjp(network, x)[1](cotangent)[0])


def test_a_rule_of_ones_own():
    class Cube(nn.Module):
        def forward(self, x):
            return x**3

    class Sixth(Cube):
        def forward(self, x):
            return super().forward(x) ** 2

    asked = []

    def rule(layer, x):
        asked.append(type(layer))
        return layer(x), lambda e: e * 3 * x**2

    register_pull_back(Cube, rule)
    x = torch.randn(2, 3)
    for layer in (Cube(), type("Cubed", (Cube,), {})(), Sixth()):
        torch.testing.assert_close(vjp(layer, x)[1](x), func.vjp(layer, x)[1](x)[0])
    assert [kind.__name__ for kind in asked] == ["Cube", "Cubed"]


def test_the_output_must_be_floating_point():
    with pytest.raises(TypeError, match=r"the network's output\[1\]: expected a floating-point tensor, got torch.bool"):
        vjp(lambda x: (x, x > 0), torch.randn(2, 3))


class Kernels(TorchDispatchMode):
    """The largest kernel of all convolutions, and the shapes that are summed."""

    def __init__(self):
        super().__init__()
        self.largest, self.sums = 0, []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function is torch.ops.aten.convolution.default:
            self.largest = max(self.largest, *args[1].shape[2:])
        if function.overloadpacket is torch.ops.aten.sum:
            self.sums.append(tuple(args[0].shape))
        return function(*args, **(kwargs or {}))


def opaque(network):
    """Hide what it is made of."""
    return lambda x: network(x)


@pytest.mark.parametrize("activation", ["leaky_relu", "silu"])
def test_no_kernel_is_larger_than_the_layers_own(activation):
    torch.manual_seed(0)
    network = Encoder((1, 16, 16), (4, 4), 6, activation)
    images, largest = torch.rand(3, 1, 16, 16), []
    for each in (network, opaque(network)):
        with Kernels() as kernels:
            feature = align(each, network(images), torch.zeros(1, 1, 16, 16), check=False)
            (images - feature).square().sum().backward()
        largest.append(kernels.largest)
    assert largest[0] == 3
    assert largest[1] > 3  # as torch has it: or else the rule has become superfluous


def test_slopes_add_up_no_zeros():
    network = nn.Sequential(nn.Linear(6, 5, bias=False), nn.LeakyReLU(), nn.Linear(5, 4, bias=False))
    images, sums = torch.rand(3, 6), []
    for each in (network, opaque(network)):
        feature = align(each, network(images), torch.zeros(1, 6), check=False)
        with Kernels() as kernels:
            (images - feature).square().sum().backward()
        sums.append(len([shape for shape in kernels.sums if shape[0] == 3 and shape[-1] == 5]))
    assert sums[1] > sums[0] == 0


def test_gradient_penalty_of_a_discriminator_uses_its_layers():
    torch.manual_seed(0)
    critic = Discriminator((1, 8, 8), (4,), 6, "silu").double()
    real, fake = torch.rand(2, 3, 1, 8, 8, dtype=torch.double)
    found = []
    for each in (critic, opaque(critic)):
        torch.manual_seed(1)
        with Kernels() as kernels:
            penalty = gradient_penalty(each, real, fake)
            found.append([penalty, *torch.autograd.grad(penalty, list(critic.parameters()), allow_unused=True)])
        assert (kernels.largest == 3) == (each is critic)
    for got, wanted in zip(*found, strict=True):
        torch.testing.assert_close(*(torch.zeros(()) if each is None else each.float() for each in (got, wanted)))


def in_float32(x):
    return x.float() + 0.1 * x.float().sin()


@pytest.mark.parametrize("shared", [True, False])
def test_under_autocast_the_gradients_are_right_to_its_precision(shared):
    torch.manual_seed(0)
    images = torch.rand(16, 1, 8, 8)
    network = Chain(
        [
            in_float32,
            layers := nn.Sequential(nn.Conv2d(1, 8, 3, 2, 1), nn.LeakyReLU(inplace=True), nn.Conv2d(8, 8, 3, 1, 1)),
            in_float32,
            last := nn.Sequential(nn.Flatten(), nn.Linear(128, 8)),
            opaque(torch.sin),
            Cast(torch.float32),
        ]
    )
    parameters = [*layers.parameters(), *last.parameters()]

    def gradient():
        latent = network(images)
        feature = align(network, latent, torch.zeros(1 if shared else 16, 1, 8, 8), step_size=0.1)
        loss = (images - feature).square().flatten(1).sum(1).mean()
        return torch.cat([each.flatten() for each in torch.autograd.grad(loss, parameters)])

    exact = gradient()
    with torch.autocast("cpu", torch.bfloat16):
        assert network(images).dtype == torch.float32
        assert layers(images).dtype == torch.bfloat16
        rounded = gradient()
    assert rounded.dtype == torch.float32
    assert 1e-5 < float((rounded - exact).norm() / exact.norm()) < 3e-2


@pytest.mark.parametrize(
    "layer",
    [nn.Linear(4, 2), nn.Conv2d(1, 2, 3), nn.ConvTranspose2d(1, 2, 3), nn.SiLU(), Cast(torch.bfloat16), torch.sin],
)
def test_what_is_pulled_back_has_the_dtype_of_the_input(layer):
    with torch.autocast("cpu", torch.bfloat16):
        output, pull = vjp(layer, torch.randn(2, 1, 4, 4))
        assert pull(output).dtype == torch.float32


@pytest.mark.parametrize("activation", ["leaky_relu", "silu"])
@pytest.mark.parametrize("samples", [1, 4])
def test_it_compiles_in_one_piece_with_the_same_gradients(activation, samples):
    torch.manual_seed(0)
    encoder = Encoder((1, 8, 8), (4,), 6, activation)
    network = Chain([encoder, Residual1d(), lambda h: (h[:, :2], h[:, 2:].exp())])
    target, start = (torch.randn(4, 2), torch.randn(4, 4)), torch.zeros(samples, 1, 8, 8)
    torch.compiler.reset()
    found = []
    for function in (align, torch.compile(align, backend="aot_eager", fullgraph=True)):
        feature = function(network, target, start)
        found.append([feature, *torch.autograd.grad(feature.square().sum(), list(encoder.parameters()))])
    for got, wanted in zip(*found, strict=True):
        torch.testing.assert_close(got, wanted)


class Residual1d(nn.Module):
    def forward(self, x):
        return x + x.sin()


@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("known", [True, False])
def test_in_inference_mode_everything_is_as_outside_of_it(samples, known):
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(1, 2, 3, 2, 1), nn.Softplus(), Residual(), nn.Flatten(), nn.Linear(18, 5)).double()
    inner = layers if known else opaque(layers)
    network = Chain([inner, lambda h: {"up": h[:, :2].exp(), "down": h[:, 2:]}])
    start = torch.zeros(samples, 1, 6, 6, dtype=torch.double)
    target = network(torch.rand(3, 1, 6, 6, dtype=torch.double))

    def everything(start):
        squashed = align(network, target, start, steps=2, step_size="auto", squash=torch.sigmoid)
        yield align(network, target, start)
        yield squashed
        yield from input_gradient(network, target, start)[1].values()
        yield from affine_map(network, start[:1], "auto")
        yield largest_singular_value(network, start)[0]
        found = invert(network, target, start)
        yield from (found.input, found.residual, found.evaluations.double())

    wanted = [each.detach() for each in everything(start)]
    with torch.inference_mode():
        for make in (torch.clone, torch.Tensor.detach):  # an inference tensor, and one from outside
            for got, expected in zip(everything(make(start)), wanted, strict=True):
                torch.testing.assert_close(got.clone(), expected)


def test_a_reshaping_of_samples_into_one_another_is_differentiated():
    network = nn.Sequential(nn.Linear(3, 4), nn.Flatten(0, 1), nn.Unflatten(0, (4, 5))).double()
    x = torch.randn(5, 1, 4, 3).double().squeeze(1).requires_grad_()
    output, pull_back = vjp(network, x)
    cotangent = torch.randn_like(output)
    torch.testing.assert_close(pull_back(cotangent), torch.autograd.grad(network(x), x, cotangent)[0])


def test_hooks_of_all_modules_are_called():
    network, x = nn.Sequential(nn.Linear(4, 3), nn.Tanh()), torch.randn(2, 4)
    doubled = register_module_forward_hook(lambda module, _, y: 2 * y if isinstance(module, nn.Linear) else None)
    try:
        found, wanted = vjp(network, x)[0], network(x)
    finally:
        doubled.remove()
    torch.testing.assert_close(found, wanted)
    assert not torch.allclose(network(x), wanted)


ELEMENTWISE = [
    nn.ReLU(), nn.LeakyReLU(0.1), nn.ELU(), nn.GELU(), nn.Mish(), nn.SELU(), nn.Sigmoid(), nn.SiLU(), nn.Softplus(),
    nn.Tanh(), nn.Hardtanh(), nn.ReLU6(), nn.Hardsigmoid(), nn.Hardswish(), nn.Flatten(),
]  # fmt: skip
IN_PLACE = [
    nn.ReLU, partial(nn.LeakyReLU, 0.1), nn.ELU, nn.Mish, nn.SELU, nn.SiLU, nn.Hardtanh, partial(nn.Hardtanh, 0.1, 0.5),
    nn.ReLU6, nn.Hardsigmoid, nn.Hardswish, partial(nn.Threshold, 0.2, -1.0),
]  # fmt: skip


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("first", ELEMENTWISE, ids=str)
def test_what_works_in_place_changes_nothing_that_the_layer_before_keeps(first, grad):
    torch.manual_seed(0)
    begin = nn.Linear(6, 6).double()
    x, cotangent = torch.randn(5, 6).double().mul(2), torch.randn(5, 6).double()
    for second in IN_PLACE:
        with torch.set_grad_enabled(grad):
            found, wanted = (vjp(nn.Sequential(begin, first, second(inplace=each)), x) for each in (True, False))
            torch.testing.assert_close(found[0], wanted[0])
            torch.testing.assert_close(found[1](cotangent), wanted[1](cotangent))
