"""Networks of every kind that people bring, against Algorithm 1 typed out on an equivalent written by hand."""

from __future__ import annotations

import copy
from collections import OrderedDict
from dataclasses import dataclass

import pytest
import torch
from reference import algorithm_1
from torch import nn
from torch.func import jacrev
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.checkpoint import checkpoint

from feature_alignment import affine_map, align, input_gradient, largest_singular_value
from feature_alignment.core.pullback import any_batch, path_of, transposed, vjp


def attention_by_hand(q, k, v):
    return (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1) @ v


class Attention(nn.Module):
    def __init__(self, by_hand=False):
        super().__init__()
        self.qkv, self.out, self.by_hand = nn.Linear(6, 18), nn.Linear(6, 6), by_hand

    def forward(self, x):
        q, k, v = (part.unflatten(-1, (2, 3)).transpose(1, 2) for part in self.qkv(x).chunk(3, -1))
        attend = attention_by_hand if self.by_hand else functional.scaled_dot_product_attention
        y = attend(q, k, v)
        return self.out(y.transpose(1, 2).flatten(2))


class SelfAttention(nn.Module):
    def __init__(self):
        super().__init__()
        self.inside = nn.MultiheadAttention(6, 2, batch_first=True)

    def forward(self, x):
        return self.inside(x, x, x, need_weights=False)[0]


class Checkpointed(nn.Module):
    def __init__(self, inside, reentrant=None):
        super().__init__()
        self.inside, self.reentrant = inside, reentrant

    def forward(self, x):
        return self.inside(x) if self.reentrant is None else checkpoint(self.inside, x, use_reentrant=self.reentrant)


class OldSine(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.sin()

    @staticmethod
    def backward(ctx, cotangent):
        return cotangent * ctx.saved_tensors[0].cos()


class Then(nn.Module):
    """A linear layer and any function."""

    def __init__(self, function):
        super().__init__()
        self.linear = nn.Linear(6, 6)
        self.apply_function = [function]  # not a submodule

    def forward(self, x):
        return self.apply_function[0](self.linear(x))


class Recurrent(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.inside = kind(6, 5, batch_first=True)

    def forward(self, x):
        return self.inside(x)[0][:, -1]


class Counting(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(6, 4)
        self.register_buffer("mean", torch.zeros(()))

    def forward(self, x):
        self.mean.mul_(0.9).add_(0.1 * x.detach().mean())
        return self.linear(x).tanh()


class Hooked(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(6, 4)

    def forward(self, x):
        with torch.autograd.graph.saved_tensors_hooks(lambda t: t * 1, lambda t: t):
            return self.linear(x).tanh()


class InTurn(nn.Sequential):
    """What a chain computes, in a ``forward`` of its own."""

    def forward(self, x):
        for each in self:
            x = each(x)
        return x


class Last(nn.Module):
    def forward(self, outputs):
        return outputs[0][:, -1]


class Transposed(nn.Module):
    def forward(self, x):
        return x.transpose(0, 1)


class Halved(nn.Conv2d):
    def _conv_forward(self, x, weight, bias):
        return super()._conv_forward(x, weight / 2, bias)


class Doubled(nn.Linear):
    def __call__(self, x):
        return 2 * super().__call__(x)


def hard_without_the_result(h):
    h = 2 * h
    functional.hardsigmoid(h, inplace=True)
    return h


def chained(name):
    if name == "a tuple between":
        return [nn.GRU(6, 5, batch_first=True), Last(), nn.Linear(5, 3)]
    if name == "sequence first":
        return [Transposed(), nn.Linear(6, 5), nn.Tanh(), Transposed(), nn.Linear(5, 2)]
    if name == "merged into the batch":
        return [nn.Flatten(0, 1), nn.Linear(6, 5), nn.Tanh(), nn.Unflatten(0, (-1, 4)), nn.Linear(5, 2)]
    if name == "another convolution":
        return [nn.Unflatten(1, (1, 4)), Halved(1, 3, 3), nn.Tanh()]
    return [Doubled(6, 5), nn.Tanh()]


CHAINED = ["a tuple between", "sequence first", "merged into the batch", "another convolution", "another call"]


def layers():
    return nn.Sequential(nn.Linear(6, 5), nn.Tanh())


def hard(x):
    return (x / 6 + 0.5).clamp(0, 1)


def make(name):
    """A network, the same written by hand, and the path that its derivatives take."""
    if name == "attention":
        return nn.Sequential(Attention(), nn.Tanh()), nn.Sequential(Attention(by_hand=True), nn.Tanh()), "torch.func"
    if name == "transformer":
        layer = nn.TransformerEncoderLayer(6, 2, 8, batch_first=True)
        network = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False).eval()
        return network, copy.deepcopy(network), "torch.func"
    if name == "multi-head attention":
        return SelfAttention().eval(), SelfAttention().eval(), "torch.func"
    if name == "checkpointed attention":
        return Checkpointed(Attention(), False), Checkpointed(Attention(by_hand=True)), "autograd"
    if name == "reentrant checkpoint":
        return Checkpointed(layers(), True), Checkpointed(layers()), None
    if name == "checkpoint":
        return Checkpointed(layers(), False), Checkpointed(layers()), "autograd"
    if name == "old autograd function":
        return Then(OldSine.apply), Then(torch.sin), "autograd"
    if name == "functional hardsigmoid":
        return Then(functional.hardsigmoid), Then(hard), "torch.func"
    if name == "functional hardsigmoid in place":
        return Then(lambda h: functional.hardsigmoid(2 * h, inplace=True)), Then(lambda h: hard(2 * h)), "torch.func"
    if name == "functional hardsigmoid without its result":
        return Then(hard_without_the_result), Then(lambda h: hard(2 * h)), "torch.func"
    if name in CHAINED:
        return nn.Sequential(*chained(name)), InTurn(*chained(name)), None
    if name == "hardsigmoid of aten":
        return Then(torch.ops.aten.hardsigmoid.default), Then(hard), "torch.func"
    if name == "hardswish":
        return Then(functional.hardswish), Then(lambda h: h * hard(h)), "torch.func"
    if name == "buffer":
        return Counting(), Counting(), "autograd"
    if name == "saved-tensor hooks":
        return Hooked(), Hooked(), "autograd"
    if name == "script":
        network = layers()
        return torch.jit.script(network), network, None
    if name == "compiled":
        network = layers()
        return torch.compile(copy.deepcopy(network), backend="aot_eager"), network, None
    if name == "compiled inside":
        network = Counting()
        network.linear = torch.compile(network.linear, backend="aot_eager")
        return network, Counting(), "autograd"
    if name == "exported":
        network = layers().double()
        return torch.export.export(network, (torch.zeros(2, 4, 6).double(),)).module(), network, "torch.func"
    kind = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}[name]
    return Recurrent(kind), Recurrent(kind), "torch.func"


KINDS = [
    *("attention", "transformer", "multi-head attention", "checkpoint", "checkpointed attention"),
    *("reentrant checkpoint", "old autograd function", "functional hardsigmoid", "functional hardsigmoid in place"),
    *("hardsigmoid of aten", "hardswish", "buffer", "saved-tensor hooks", "script", "compiled"),
    *("compiled inside", "exported", "functional hardsigmoid without its result", *CHAINED),
    *("lstm", "gru", "rnn"),
]


@pytest.fixture(scope="module", autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture(scope="module", params=KINDS)
def kind(request):
    network, by_hand, path = make(request.param)
    network, by_hand = network.double(), by_hand.double()
    by_hand.load_state_dict(
        {name.replace("_orig_mod.", ""): each.clone() for name, each in network.state_dict().items()}
    )
    return network, by_hand, path


def images(count):
    return torch.rand(count, 4, 6, dtype=torch.double) * 2 - 1


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("steps", [1, 2])
def test_gradients_through_features_are_those_of_algorithm_1(kind, shared, steps):
    network, by_hand, path = kind
    x, start = images(3), images(1 if shared else 3)
    with torch.no_grad():
        target = by_hand(x)
    feature = align(network, target, start, steps=steps, step_size=0.7)
    found = torch.autograd.grad((x - feature).square().sum(), list(network.parameters()))
    with sdpa_kernel(SDPBackend.MATH):
        wanted = algorithm_1(by_hand, target, start, steps=steps, step_size=0.7)
        expected = torch.autograd.grad((x - wanted).square().sum(), list(by_hand.parameters()))
    torch.testing.assert_close(feature, wanted)
    largest = max(float(each.abs().max()) for each in expected)
    assert largest > 0
    for got, each in zip(found, expected, strict=True):
        assert float((got - each).abs().max()) < 1e-8 * largest
    assert path is None or path_of(network, start) == path


def test_gradients_of_start_and_target(kind):
    network, by_hand, _ = kind
    start, x = images(1).requires_grad_(), images(3)
    with torch.no_grad():
        target = by_hand(x)
    target.requires_grad_()
    feature = align(network, target, start, steps=2, step_size=0.7)
    with sdpa_kernel(SDPBackend.MATH):
        wanted = algorithm_1(by_hand, target, start, steps=2, step_size=0.7)
        expected = torch.autograd.grad(wanted.sin().sum(), [start, target])
    for got, each in zip(torch.autograd.grad(feature.sin().sum(), [start, target]), expected, strict=True):
        torch.testing.assert_close(got, each)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_without_a_graph_and_with_frozen_parameters(kind, mode):
    network, by_hand, _ = kind
    target, start = by_hand(images(3)).detach(), images(1)
    with sdpa_kernel(SDPBackend.MATH):
        wanted = algorithm_1(by_hand, target, start, steps=2, step_size=0.7).detach()
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    try:
        with mode():
            for own in (start, start.clone()):  # in inference mode, the latter is an inference tensor
                feature = align(network, target, own, steps=2, step_size=0.7)
                assert not feature.requires_grad
                torch.testing.assert_close(feature.clone(), wanted)
    finally:
        for parameter in network.parameters():
            parameter.requires_grad_(True)


def test_recomputed_steps_have_the_same_gradients(kind):
    network, by_hand, _ = kind
    target, start = by_hand(images(3)).detach(), images(3)
    found = []
    for recompute in (False, True):
        feature = align(network, target, start, steps=2, step_size=0.7, recompute=recompute)
        found.append(torch.autograd.grad(feature.sin().sum(), list(network.parameters())))
    for got, wanted in zip(*found, strict=True):
        torch.testing.assert_close(got, wanted)


def test_the_jacobian_from_either_side(kind):
    network, by_hand, _ = kind
    point, vectors = images(2), images(2)
    exact = [torch.autograd.functional.jacobian(by_hand, each[None]).reshape(-1, 24).detach() for each in point]
    output, pull_back = vjp(network, point)
    pushed = transposed(pull_back, output)(vectors)
    for sample in range(2):
        torch.testing.assert_close(pushed[sample].flatten(), exact[sample] @ vectors[sample].flatten())
    sigma, _ = largest_singular_value(network, point, 200)
    norms = torch.stack([torch.linalg.matrix_norm(each, 2) for each in exact])
    torch.testing.assert_close(sigma, norms, rtol=5e-3, atol=0)
    matrix, offset = affine_map(network, point[:1], 0.3)
    torch.testing.assert_close(matrix, 0.3 * exact[0])
    torch.testing.assert_close(offset, point[0].flatten() - 0.3 * by_hand(point[:1]).flatten() @ exact[0])


def test_scripted_networks_at_every_evaluation():
    network = layers().double()
    scripted, x, start = (
        torch.jit.script(copy.deepcopy(network)),
        torch.randn(3, 6).double(),
        torch.randn(3, 6).double(),
    )
    target = network(x).detach()
    wanted = algorithm_1(network, target, start)
    expected = torch.autograd.grad(wanted.square().sum(), list(network.parameters()))
    for _ in range(4):  # its optimiser changes what it does
        feature = align(scripted, target, start, check=False)
        found = torch.autograd.grad(feature.square().sum(), list(scripted.parameters()))
        for got, each in zip(found, expected, strict=True):
            torch.testing.assert_close(got, each)


@pytest.mark.parametrize("name", ["attention", "transformer", "multi-head attention", "lstm", "gru", "rnn"])
def test_the_path_is_the_same_in_single_precision_without_a_graph(name):
    network, _, path = make(name)
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            assert path_of(network, torch.randn(2, 4, 6)) == path


# --- structures ---------------------------------------------------------------------------------------


class ModelOutput(OrderedDict):
    """As transformers has it, where it is not known to PyTorch."""


@dataclass
class Scores:
    logits: torch.Tensor
    aux: torch.Tensor | None


@pytest.mark.parametrize("kind", [dict, ModelOutput, Scores])
@pytest.mark.parametrize("shared", [True, False])
def test_none_is_passed_over_and_mappings_are_taken_apart(kind, shared):
    linear = nn.Linear(6, 3).double()

    def network(x):
        return kind(logits=linear(x).tanh(), aux=None)

    x, start = torch.randn(4, 6).double(), torch.randn(1 if shared else 4, 6).double()
    assert path_of(network, start) == "torch.func"
    for recompute in (False, True):
        feature = align(network, network(x), start, steps=2, recompute=recompute)
        torch.testing.assert_close(feature, algorithm_1(lambda r: linear(r).tanh(), linear(x).tanh(), start, steps=2))
        (gradient,) = torch.autograd.grad(feature.square().sum(), linear.bias, retain_graph=True)
        assert gradient.abs().max() > 0
    sigma, _ = largest_singular_value(network, start[:1], 100)
    exact = jacrev(lambda r: linear(r).tanh())(start[:1]).view(3, 6)
    torch.testing.assert_close(sigma[0], torch.linalg.matrix_norm(exact, 2))
    torch.testing.assert_close(affine_map(network, start[:1])[0], exact)


def test_none_on_one_side_only_is_refused_by_name():
    def network(r):
        return {"logits": r, "aux": None}

    zeros = torch.zeros(2, 3)
    with pytest.raises(ValueError, match=r"target\['aux'\]: expected None like the network's output, got Tensor"):
        align(network, {"logits": zeros, "aux": zeros}, zeros)
    with pytest.raises(ValueError, match=r"target\['logits'\]: expected Tensor like the network's output, got None"):
        align(network, {"logits": None, "aux": None} | {"aux": zeros}, zeros)


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (lambda r: r.argmax(1), r"\['extra'\]: .*got torch.int64; choose what to align, .* network\(x\)\['logits'\]"),
        (lambda r: r > 0, r"\['extra'\]: .*got torch.bool; choose what to align"),
        (torch.fft.fft, r"\['extra'\]: .*got torch.complex64; choose what to align"),
        (lambda r: "cat", r"\['extra'\]: .*got str; choose what to align"),
    ],
)
def test_parts_that_cannot_be_aligned_are_named_with_the_way_out(extra, message):
    def network(r):
        return {"logits": r, "extra": extra(r)}

    zeros = torch.zeros(2, 3)
    with pytest.raises(TypeError, match=message):
        align(network, {"logits": zeros, "extra": zeros}, zeros)
    with pytest.raises(TypeError, match=r"got torch.complex64; split it, .*torch.view_as_real"):
        align(torch.fft.fft, zeros, zeros)


def test_a_network_without_any_derivative_is_refused():
    for network in (torch.no_grad()(nn.Linear(3, 3)), lambda r: r.detach() * 2):
        with pytest.raises(RuntimeError, match="no derivative of its output with respect to its input"):
            input_gradient(network, torch.zeros(2, 3), torch.zeros(2, 3))


def test_functions_that_overwrite_their_input_leave_the_callers():
    def network(r):
        return r.mul_(2).tanh()

    start = torch.ones(3, 2).double()
    feature = align(network, torch.zeros(3, 2).double(), start, steps=2)
    assert bool((start == 1).all())
    torch.testing.assert_close(feature, algorithm_1(lambda r: (2 * r).tanh(), torch.zeros(3, 2), start, steps=2))


@pytest.mark.parametrize("shared", [True, False])
def test_what_is_written_to_the_input_unseen_by_autograd_leaves_the_callers(shared):
    weight = torch.randn(3, 2).double()

    def under_no_grad(r):
        with torch.no_grad():
            r.clamp_(0, 1)
        return r @ weight

    def by_data(r):
        r.data.clamp_(0, 1)
        return r @ weight

    def detached(r):
        r.detach().clamp_(0, 1)
        return r @ weight

    def by_hand(r):
        return (r + (r.clamp(0, 1) - r).detach()) @ weight

    start, target = torch.full((1 if shared else 4, 3), -0.5).double(), torch.randn(4, 2).double()
    for network in (under_no_grad, by_data, detached):
        feature = align(network, target, start, steps=2, step_size=0.1)
        assert bool((start == -0.5).all())
        torch.testing.assert_close(feature, algorithm_1(by_hand, target, start, steps=2, step_size=0.1))


def test_a_weight_made_in_inference_mode_is_named():
    with torch.inference_mode():
        network = nn.Sequential(nn.Linear(3, 2), nn.Tanh())
    with pytest.raises(ValueError, match=r"network: '0.weight' was made under torch.inference_mode\(\)"):
        align(network, torch.zeros(1, 2), torch.zeros(1, 3))


def test_features_within_transformations_of_torch_func():
    network, start = nn.Sequential(nn.Linear(4, 3), nn.Tanh()).double(), torch.ones(1, 4).double()
    target = torch.randn(2, 3).double()
    jacobian = jacrev(lambda z: align(network, z, start))(target)
    step = torch.autograd.functional.jacobian(lambda z: algorithm_1(network, z, start, steps=1), target)
    torch.testing.assert_close(jacobian, step)


def test_exported_modules_take_any_batch():
    network = layers()
    exported = torch.export.export(network, (torch.zeros(4, 6),)).module()
    for count in (1, 4, 7, 9):
        x = torch.randn(count, 6)
        torch.testing.assert_close(any_batch(exported)(x), network(x))
        torch.testing.assert_close(any_batch(nn.Sequential(exported, nn.Sigmoid()))(x), network(x).sigmoid())
    feature = align(nn.Sequential(exported, nn.Sigmoid()), torch.zeros(3, 5), torch.zeros(1, 6))
    torch.testing.assert_close(
        feature, align(nn.Sequential(network, nn.Sigmoid()), torch.zeros(3, 5), torch.zeros(1, 6))
    )
    dynamic = torch.export.export(network, (torch.zeros(4, 6),), dynamic_shapes=({0: torch.export.Dim("N")},)).module()
    assert any_batch(dynamic) is dynamic


def test_a_batch_of_no_samples_is_no_reason_to_leave_torch_func():
    network = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4))
    for _ in range(2):
        assert align(network, torch.zeros(0, 4), torch.zeros(0, 3), steps=2).shape == (0, 3)
    assert path_of(network, torch.zeros(1, 3)) == "torch.func"
