"""Properties that hold for every network, target and start: drawn at random, against closed forms in float64.

Of a linear network :math:`E(r) = W r + b` with the shared start s, T steps of size tau lead to

.. math:: r^T = s + V \\, \\mathrm{diag}\\bigl((1 - (1 - \\tau \\sigma^2)^T) / \\sigma\\bigr) \\, U^\\top (z - b - W s)

for the singular value decomposition :math:`W = U \\Sigma V^\\top` (and T tau sigma where sigma is 0).
"""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from torch import nn

from feature_alignment import LayeredStart, align, input_gradient, invert, select
from feature_alignment.core.layered_start import cut
from feature_alignment.core.local import Arcsinh, LocalNetwork

# The same examples every time, and few: the suite runs often. Shrinking is left in, as it runs after a failure only.
fixed = settings(
    derandomize=True, database=None, deadline=None, max_examples=15,
    suppress_health_check=[HealthCheck.too_slow], phases=[Phase.explicit, Phase.generate, Phase.shrink],
)  # fmt: skip

EXACT = {"rtol": 1e-9, "atol": 1e-10}
sizes = st.integers(1, 6)
either = st.booleans()
seeds = st.integers(0, 2**31 - 1)
step_counts = st.integers(1, 4)
step_sizes = st.floats(0.01, 1.2)
activations = st.sampled_from([nn.Tanh, nn.SiLU, nn.Softplus, nn.GELU, nn.LeakyReLU, nn.Sigmoid, Arcsinh])


@st.composite
def networks(draw):
    """A network of one or two hidden layers or of convolutions, in float64, and the shape of its inputs."""
    torch.manual_seed(draw(seeds))
    if draw(st.booleans()):
        inputs, hidden, outputs = draw(sizes), draw(sizes), draw(sizes)
        layers = [nn.Linear(inputs, hidden), draw(activations)(), nn.Linear(hidden, outputs)]
        if draw(st.booleans()):
            layers += [draw(activations)(), nn.Linear(outputs, outputs)]
        return nn.Sequential(*layers).double(), (inputs,)
    channels, side, kernel = draw(st.integers(1, 2)), draw(st.integers(3, 6)), draw(st.integers(1, 3))
    convolution = nn.Conv2d(channels, draw(sizes), kernel, draw(st.integers(1, 2)), draw(st.integers(0, 1)))
    layers = [convolution, draw(activations)(), nn.Flatten(), nn.LazyLinear(draw(sizes))]
    network, shape = nn.Sequential(*layers).double(), (channels, side, side)
    network(torch.zeros(1, *shape, dtype=torch.float64))
    return network, shape


@st.composite
def problems(draw, shared=either):
    """A network, targets of several samples, their starts or one for all, and the options of align."""
    network, shape = draw(networks())
    count = draw(st.integers(1, 5))
    starts = 1 if draw(shared) else count
    start = torch.randn(starts, *shape, dtype=torch.float64)
    target = torch.randn(count, *network(start[:1]).shape[1:], dtype=torch.float64).detach()
    options = {"steps": draw(step_counts), "step_size": draw(step_sizes)}
    if draw(st.booleans()):
        options["squash"] = torch.sigmoid
    if draw(st.booleans()):
        options["max_step"] = draw(st.floats(0.05, 2))
    return network, target, start, options


def aligned(network, target, start, options):
    return align(network, target, start, **options, check=False).detach()


def part(start, index):
    return start if len(start) == 1 else start[index]


@fixed
@given(problems())
def test_a_feature_does_not_depend_on_the_other_samples(problem):
    network, target, start, options = problem
    together = aligned(network, target, start, options)
    for sample in range(len(target)):
        one = slice(sample, sample + 1)
        torch.testing.assert_close(
            aligned(network, target[one], part(start, one), options), together[one], **EXACT
        )  # fmt: skip


@fixed
@given(problems(), seeds)
def test_permuted_targets_have_permuted_features(problem, seed):
    network, target, start, options = problem
    order = torch.randperm(len(target), generator=torch.Generator().manual_seed(seed))
    found = aligned(network, target[order], part(start, order), options)
    torch.testing.assert_close(found, aligned(network, target, start, options)[order], **EXACT)


@fixed
@given(problems(shared=st.just(True)))
def test_a_shared_start_is_the_same_start_for_each(problem):
    network, target, start, options = problem
    copies = start.expand(len(target), *start.shape[1:]).clone()
    torch.testing.assert_close(
        aligned(network, target, start, options), aligned(network, target, copies, options), **EXACT
    )  # fmt: skip


@fixed
@given(problems(), st.integers(0, 4))
def test_steps_compose(problem, first):
    """T steps are T1 steps and then the others from where these end."""
    network, target, start, options = problem
    squash = options.pop("squash", None)
    inner = network if squash is None else nn.Sequential(nn.Sigmoid(), network)
    first = min(first, options["steps"])
    halfway = aligned(inner, target, start, options | {"steps": first})
    there = aligned(inner, target, halfway, options | {"steps": options["steps"] - first})
    there = there if squash is None else squash(there)
    torch.testing.assert_close(there, aligned(network, target, start, options | {"squash": squash}), **EXACT)


@fixed
@given(problems(), st.sampled_from([torch.float32, torch.float64, torch.bfloat16]))
def test_the_feature_has_the_dtype_of_the_start_and_the_values_of_float64(problem, dtype):
    network, target, start, options = problem
    expected = aligned(network, target, start, options)
    found = aligned(network.to(dtype), target.to(dtype), start.to(dtype), options)
    assert found.dtype == dtype
    bound = {torch.float32: 1e-3, torch.float64: 1e-12, torch.bfloat16: 0.5}[dtype]
    assert (found.double() - expected).norm() <= bound * (1 + expected.norm())


@fixed
@given(problems())
def test_recomputing_changes_no_gradient(problem):
    network, target, start, options = problem
    found = []
    for recompute in (False, True):
        feature = align(network, target, start, **options, recompute=recompute, check=False)
        found.append(torch.autograd.grad(feature.square().sum(), list(network.parameters()), allow_unused=True))
    for plain, again in zip(*found, strict=True):
        assert (plain is None) == (again is None)
        if plain is not None:
            torch.testing.assert_close(plain, again, **EXACT)


@st.composite
def linear(draw):
    """A linear network, targets, and a shared start, in float64."""
    torch.manual_seed(draw(seeds))
    inputs, outputs, count = draw(sizes), draw(sizes), draw(st.integers(1, 7))
    layer = nn.Linear(inputs, outputs, bias=draw(either)).double()
    with torch.no_grad():
        layer.weight.mul_(draw(st.floats(0.2, 2)))
    target, start = torch.randn(count, outputs).double(), torch.randn(1, inputs).double()
    return layer, target, start


def matrices(layer):
    bias = torch.zeros(len(layer.weight), dtype=torch.float64) if layer.bias is None else layer.bias.detach()
    return layer.weight.detach(), bias


def closed_form(layer, target, start, steps, step_size):
    weight, bias = matrices(layer)
    left, sigma, right = torch.linalg.svd(weight, full_matrices=False)
    small = sigma < 1e-8
    gain = (1 - (1 - step_size * sigma**2) ** steps) / torch.where(small, 1, sigma)
    gain = torch.where(small, steps * step_size * sigma, gain)
    return start + (target - bias - start @ weight.T) @ left @ torch.diag(gain) @ right


@fixed
@given(linear(), step_counts, step_sizes)
def test_align_of_a_linear_network_is_the_closed_form(problem, steps, step_size):
    layer, target, start = problem
    expected = closed_form(layer, target, start, steps, step_size)
    for starts in (start, start.expand(len(target), -1).clone()):
        found = align(layer, target, starts, steps=steps, step_size=step_size, check=False)
        torch.testing.assert_close(found.detach(), expected, **EXACT)


@fixed
@given(linear(), step_sizes, st.floats(0.01, 3))
def test_a_bounded_step_has_the_direction_of_the_gradient_and_no_more_than_the_bound(problem, step_size, bound):
    layer, target, start = problem
    weight, bias = matrices(layer)
    step = step_size * (start @ weight.T + bias - target) @ weight
    norm = step.norm(dim=1, keepdim=True)
    expected = start - step * torch.where(norm > bound, bound / norm, 1)
    found = align(layer, target, start, step_size=step_size, max_step=bound, check=False)
    torch.testing.assert_close(found.detach(), expected, **EXACT)


@fixed
@given(linear(), st.integers(1, 4))
def test_the_step_that_cannot_diverge_lowers_every_residual(problem, steps):
    layer, target, start = problem
    before = (layer(start) - target).norm(dim=1)
    after = (layer(align(layer, target, start, steps=steps, step_size="auto")) - target).norm(dim=1)
    assert (after <= before * (1 + 1e-9)).all()


@fixed
@given(linear(), st.booleans())
def test_input_gradient_of_a_linear_network_is_the_closed_form(problem, shared):
    layer, target, start = problem
    point = start if shared else torch.randn(len(target), start.shape[1]).double()
    weight, bias = matrices(layer)
    gradient, residual = input_gradient(layer, target, point)
    expected = point @ weight.T + bias - target
    torch.testing.assert_close(residual.expand_as(expected).detach(), expected, **EXACT)
    torch.testing.assert_close(gradient.detach(), expected @ weight, **EXACT)


@fixed
@given(linear(), st.sampled_from(["auto", "anderson", "lbfgs", "gauss_newton"]))
def test_invert_of_a_linear_network_finds_a_pre_image_near_the_start(problem, method):
    """An output in the range of the network is met; the input differs from the start within the rows of W only."""
    layer, target, start = problem
    weight, bias = matrices(layer)
    target = layer(torch.randn(len(target), start.shape[1]).double()).detach()
    found = invert(layer, target, start, tol=1e-6, max_evaluations=3000, method=method)
    scale = target.norm(dim=1)
    residual = (found.input @ weight.T + bias - target).norm(dim=1) / torch.where(scale == 0, 1, scale)
    torch.testing.assert_close(residual, found.residual, rtol=1e-6, atol=1e-12)
    assert torch.equal(found.converged, found.residual <= 1e-6)
    assert found.converged.all() or method in ("anderson", "lbfgs")  # which give samples up, for the next in auto
    moved = found.input - start
    torch.testing.assert_close(moved @ torch.linalg.pinv(weight) @ weight, moved, rtol=1e-6, atol=1e-7)


@settings(fixed, max_examples=6)
@given(problems(shared=st.just(True)))
def test_invert_does_not_depend_on_the_other_samples(problem):
    network, target, start, _ = problem
    target = network(torch.randn(len(target), *start.shape[1:]).double()).detach()
    together = invert(network, target, start, tol=1e-4, max_evaluations=300)
    for sample in range(len(target)):
        alone = invert(network, target[sample : sample + 1], start, tol=1e-4, max_evaluations=300)
        assert bool(alone.converged) == bool(together.converged[sample])
        if alone.converged:
            torch.testing.assert_close(alone.input, together.input[sample : sample + 1], rtol=1e-4, atol=1e-6)


@fixed
@given(st.lists(sizes, min_size=2, max_size=5), st.integers(1, 4), seeds)
def test_a_layered_start_of_linear_stages_is_the_product_of_their_closed_forms(widths, count, seed):
    torch.manual_seed(seed)
    pairs = itertools.pairwise(widths)
    network = nn.Sequential(*(nn.Linear(a, b) for a, b in pairs)).double()
    start = LayeredStart(cut(network), torch.zeros(1, widths[0]).double(), squash=lambda x: x)
    with torch.no_grad():
        for parameter in start.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    hidden = target = torch.randn(count, widths[-1]).double()
    for layer, point, log_size in reversed(list(zip(network, start.starts, start.log_step_sizes, strict=True))):
        weight, bias = matrices(layer)
        hidden = point - log_size.exp() * (point @ weight.T + bias - hidden) @ weight
    torch.testing.assert_close(start(target), hidden, **EXACT)
    order = torch.randperm(count)
    torch.testing.assert_close(start(target[order]), hidden[order], **EXACT)


@fixed
@given(networks(), st.data())
def test_a_selection_is_the_network_up_to_there(drawn, data):
    network, shape = drawn
    last = data.draw(st.integers(0, len(network) - 1))
    first = data.draw(st.integers(0, last))
    x = torch.randn(3, *shape, dtype=torch.float64)
    expected = [nn.Sequential(*list(network)[: index + 1])(x) for index in (last, first)]
    torch.testing.assert_close(select(network, str(last))(x), expected[0], **EXACT)
    if first != last:
        found = select(network, str(last), str(first))(x)
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other, **EXACT)
    target = torch.randn_like(expected[0][:2])
    start = torch.randn(1, *shape, dtype=torch.float64)
    plain = align(nn.Sequential(*list(network)[: last + 1]), target, start, steps=2, step_size=0.1, check=False)
    torch.testing.assert_close(
        align(select(network, str(last)), target, start, steps=2, step_size=0.1, check=False), plain, **EXACT
    )  # fmt: skip


@st.composite
def local(draw, steps):
    """A chain of linear layers and arcsinh, in float64, and inputs."""
    torch.manual_seed(draw(seeds))
    widths = draw(st.lists(sizes, min_size=2, max_size=4))
    layers = []
    for a, b in itertools.pairwise(widths):
        layers += [nn.Linear(a, b, bias=draw(st.booleans())), Arcsinh()]
    options = {"steps": draw(steps), "step_size": draw(step_sizes)}
    network = LocalNetwork(nn.Sequential(*layers).double(), (widths[0],), **options)
    return network, torch.randn(draw(st.integers(1, 6)), widths[0]).double(), options


@fixed
@given(local(step_counts))
def test_the_way_back_of_linear_layers_is_the_product_of_their_closed_forms(drawn):
    network, x, options = drawn
    z = hidden = network(x).detach()
    for layer in reversed(list(network)):
        if isinstance(layer, Arcsinh):
            hidden = torch.sinh(hidden)
        else:
            zeros = torch.zeros(1, layer.in_features, dtype=torch.float64)
            hidden = closed_form(layer, hidden, zeros, options["steps"], options["step_size"])
    torch.testing.assert_close(network.run_backwards(z), hidden, **EXACT)


@fixed
@given(local(st.just(1)), st.integers(1, 3))
def test_a_local_update_is_that_of_the_closed_loss(drawn, micro_batch):
    r"""With one step the loss of a layer is ||x - tau W^T W x||^2, whose gradient autograd finds from the formula."""
    network, x, options = drawn
    expected, inputs = [], x
    for layer in network:
        if isinstance(layer, nn.Linear):
            weight = layer.weight.detach().clone().requires_grad_()
            loss = (inputs - options["step_size"] * inputs @ weight.T @ weight).square().sum() / len(x)
            expected.append((weight.detach() - 0.1 * torch.autograd.grad(loss, weight)[0], loss.detach()))
        inputs = layer(inputs).detach()
    optimizers = [torch.optim.SGD(layer.parameters(), 0.1) for layer in network.learning_layers()]
    output, losses = network.local_step(x, optimizers, micro_batch=micro_batch)
    torch.testing.assert_close(output, inputs, **EXACT)
    for layer, loss, (weight, wanted) in zip(network.learning_layers(), losses, expected, strict=True):
        torch.testing.assert_close(layer.weight.detach(), weight, **EXACT)
        torch.testing.assert_close(loss, wanted, **EXACT)


@pytest.mark.parametrize("steps", [1, 3])
def test_the_closed_form_is_euler_in_a_rank_deficient_case(steps):
    """The formula of this file itself, against the steps written out."""
    torch.manual_seed(0)
    layer = nn.Linear(4, 3).double()
    with torch.no_grad():
        layer.weight[2] = layer.weight[0] + layer.weight[1]
    target, r = torch.randn(5, 3).double(), torch.randn(1, 4).double()
    expected = closed_form(layer, target, r, steps, 0.3)
    weight, bias = matrices(layer)
    for _ in range(steps):
        r = r - 0.3 * (r @ weight.T + bias - target) @ weight
    torch.testing.assert_close(r.expand_as(expected), expected, **EXACT)
