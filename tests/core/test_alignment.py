"""Algorithm 1 against closed forms, a naive second implementation and finite differences."""

from __future__ import annotations

import subprocess
import sys
import warnings

import pytest
import torch
from reference import algorithm_1
from torch import nn

from feature_alignment import DivergenceWarning, align, input_gradient
from feature_alignment.core.step_sizes import limited


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def small_encoder(dtype=torch.float64):
    return nn.Sequential(
        nn.Conv2d(2, 3, 3, 2, 1), nn.SiLU(), nn.Conv2d(3, 4, 3, 1, 1), nn.Softplus(), nn.Flatten(), nn.Linear(36, 5)
    ).to(dtype)


class TwoHeads(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.mean, self.scores = small_encoder(), nn.Linear(5, 3).double(), nn.Linear(5, 2).double()

    def forward(self, x):
        h = self.body(x).tanh()
        return self.mean(h), self.scores(h)


# --- closed forms -----------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_scalar_weight_follows_equation_16(steps):
    w, x, r0 = 0.7, torch.tensor([[1.3]], dtype=torch.float64), torch.tensor([[-0.4]], dtype=torch.float64)
    target = w * x
    expected = r0 * (1 - w**2) ** steps + sum((1 - w**2) ** q * w * target for q in range(steps))
    torch.testing.assert_close(align(lambda r: w * r, target, r0, steps=steps), expected)


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("steps", [1, 3])
def test_linear_network_follows_equation_16_in_matrix_form(steps, shared):
    weight = 0.5 * torch.randn(4, 6, dtype=torch.float64)
    target = torch.randn(7, 4, dtype=torch.float64)
    start = torch.randn(1 if shared else 7, 6, dtype=torch.float64)
    tau = 0.1
    shrink = torch.eye(6, dtype=torch.float64) - tau * weight.T @ weight
    power = torch.linalg.matrix_power
    expected = start @ power(shrink, steps) + sum(tau * target @ weight @ power(shrink, q) for q in range(steps))
    torch.testing.assert_close(align(lambda r: r @ weight.T, target, start, steps=steps, step_size=tau), expected)


def test_one_step_from_zero_on_a_linear_layer_is_the_transposed_weight():
    layer = nn.Linear(6, 4).double()
    z = torch.randn(3, 4, dtype=torch.float64)
    torch.testing.assert_close(align(layer, z, torch.zeros(1, 6).double()), (z - layer.bias) @ layer.weight)


def test_many_steps_reach_the_pseudo_inverse_equation_17():
    weight = torch.randn(4, 6, dtype=torch.float64)
    target = torch.randn(5, 4, dtype=torch.float64)
    step = 1.0 / torch.linalg.matrix_norm(weight, 2) ** 2
    with torch.no_grad():
        feature = align(lambda r: r @ weight.T, target, torch.zeros(1, 6).double(), steps=5000, step_size=step)
    torch.testing.assert_close(feature, target @ torch.linalg.pinv(weight).T)


def test_orthogonal_weight_is_inverted_in_one_step_whatever_the_start():
    weight = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64)).Q
    x = torch.randn(5, 6, dtype=torch.float64)
    torch.testing.assert_close(align(lambda r: r @ weight.T, x @ weight.T, torch.randn(5, 6).double()), x)


# --- the naive implementation, values and gradients -------------------------------------------------


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("squash", [None, torch.sigmoid])
@pytest.mark.parametrize("heads", [False, True])
def test_agrees_with_naive_algorithm_1(shared, steps, squash, heads):
    network = TwoHeads() if heads else small_encoder()
    images = torch.rand(4, 2, 6, 6, dtype=torch.float64)
    start = torch.randn(1 if shared else 4, 2, 6, 6, dtype=torch.float64)
    features, gradients = [], []
    for method in (
        lambda z: align(network, z, start, steps=steps, step_size=0.8, squash=squash),
        lambda z: algorithm_1(network, z, start, steps=steps, step_size=0.8, squash=squash),
    ):
        feature = method(network(images))
        cost = (images - feature).square().sum()
        features.append(feature)
        gradients.append(torch.autograd.grad(cost, list(network.parameters())))
    torch.testing.assert_close(features[0], features[1])
    torch.testing.assert_close(gradients[0], gradients[1])
    assert gradients[0][0].abs().max() > 0


def test_leaky_relu_encoder_in_single_precision_agrees_with_the_naive_one():
    network = nn.Sequential(nn.Conv2d(1, 4, 3, 2, 1), nn.LeakyReLU(inplace=True), nn.Flatten(), nn.Linear(64, 8))
    images = torch.rand(3, 1, 8, 8)
    start = torch.zeros(1, 1, 8, 8)
    target = network(images).detach()
    torch.testing.assert_close(align(network, target, start, steps=2), algorithm_1(network, target, start, steps=2))
    assert start.eq(0).all()


def test_input_gradient_is_the_gradient_of_half_the_squared_distance():
    network, point = small_encoder(), torch.randn(3, 2, 6, 6, dtype=torch.float64, requires_grad=True)
    target = torch.randn(3, 5, dtype=torch.float64)
    gradient, residual = input_gradient(network, target, point)
    (expected,) = torch.autograd.grad(0.5 * (network(point) - target).square().sum(), point)
    torch.testing.assert_close(gradient, expected)
    torch.testing.assert_close(residual, network(point) - target)


# --- differentiable with respect to everything, twice ----------------------------------------------


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("squash", [None, torch.sigmoid])
def test_gradcheck_and_gradgradcheck(shared, squash):
    weight = (0.5 * torch.randn(3, 4, dtype=torch.float64)).requires_grad_()
    target = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    start = torch.randn(1 if shared else 2, 4, dtype=torch.float64, requires_grad=True)
    sizes = torch.tensor([0.7, 0.4], dtype=torch.float64, requires_grad=True)

    def feature(weight, target, start, sizes):
        def network(r):
            return nn.functional.softplus(r @ weight.T)

        return align(network, target, start, steps=2, step_size=sizes, squash=squash)

    assert torch.autograd.gradcheck(feature, (weight, target, start, sizes))
    assert torch.autograd.gradgradcheck(feature, (weight, target, start, sizes))


def test_compiles_without_graph_breaks_and_with_the_same_gradients():
    network = small_encoder(torch.float32)
    images, start = torch.rand(4, 2, 6, 6), torch.zeros(1, 2, 6, 6)

    def cost(images):
        return (images - align(network, network(images), start, steps=2, squash=torch.sigmoid)).square().sum()

    eager = torch.autograd.grad(cost(images), list(network.parameters()))
    compiled = torch.compile(cost, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(torch.autograd.grad(compiled(images), list(network.parameters())), eager)


# --- inference --------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_inference_gives_the_same_feature_without_a_graph(mode):
    network, images, start = small_encoder(), torch.rand(3, 2, 6, 6).double(), torch.zeros(1, 2, 6, 6).double()
    expected = align(network, network(images), start, steps=3)
    with mode():
        feature = align(network, network(images), start, steps=3)
    assert not feature.requires_grad
    torch.testing.assert_close(feature, expected.detach())


def test_inference_memory_does_not_grow_with_the_number_of_steps():
    code = """
import sys, torch
from pathlib import Path
from feature_alignment import align
start, target = torch.ones(500, 1000), torch.ones(500, 1000)  # 2 MB each
def peak(steps):
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew: a process inherits that of its parent
    feature = align(torch.tanh, target, start, steps=steps, step_size=0.1)
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) / 1024
for parameter in (start, target):
    parameter.requires_grad_(sys.argv[1] == "graph")
with torch.set_grad_enabled(sys.argv[1] == "graph"):
    print(-peak(2) + peak(60))
"""

    def growth(mode):
        out = subprocess.run([sys.executable, "-c", code, mode], capture_output=True, text=True, check=True)
        return float(out.stdout)

    # The allocator's own slack is tens of MB; a kept graph is over three hundred.
    assert growth("inference") < 90
    assert growth("graph") > 270


# --- one sample, whatever its neighbours ------------------------------------------------------------


@pytest.mark.parametrize("shared", [True, False])
def test_a_sample_does_not_depend_on_batch_size_or_neighbours(shared):
    network, images = small_encoder(), torch.rand(6, 2, 6, 6).double()
    starts = torch.rand(1 if shared else 6, 2, 6, 6).double()
    target = network(images)
    together = align(network, target, starts, steps=3)
    for index in range(6):
        own = starts if shared else starts[index : index + 1]
        torch.testing.assert_close(align(network, target[index : index + 1], own, steps=3), together[index : index + 1])


def test_shared_start_evaluates_the_first_step_at_a_batch_of_one():
    inner, batches = small_encoder(), []

    def network(r):
        batches.append(len(r))
        return inner(r)

    align(network, torch.zeros(5, 5).double(), torch.zeros(1, 2, 6, 6).double(), steps=2, check=False)
    assert batches == [1, 5]


def test_nested_structures_and_the_same_result_as_concatenation():
    a, b = torch.randn(3, 6).double(), torch.randn(2, 6).double()
    x = torch.randn(4, 6).double()
    nested = align(
        lambda r: {"z": (r @ a.T,), "class": [r @ b.T]},
        {"z": (x @ a.T,), "class": [x @ b.T]},
        torch.zeros(1, 6).double(),
        step_size=0.1,
    )
    both = torch.cat([a, b])
    torch.testing.assert_close(
        nested, align(lambda r: r @ both.T, x @ both.T, torch.zeros(1, 6).double(), step_size=0.1)
    )


def test_step_sizes_one_per_step():
    w, target, r = 0.5, torch.ones(1, 1), torch.zeros(1, 1)
    for sizes in ([0.5, 2.0], torch.tensor([0.5, 2.0])):
        first = r - 0.5 * w * (w * r - target)
        second = first - 2.0 * w * (w * first - target)
        torch.testing.assert_close(align(lambda r: w * r, target, r, steps=2, step_size=sizes), second)


def test_vectors_without_feature_dimension_are_outputs_too():
    x = torch.rand(5, 3).double()
    feature = align(lambda r: r.sum(1), x.sum(1), torch.zeros(1, 3).double(), step_size=1 / 3)
    torch.testing.assert_close(feature.sum(1), x.sum(1))


# --- what cannot work is refused, by name -----------------------------------------------------------


class BatchNormalised(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))

    def forward(self, x):
        return self.layers(x)


def test_batch_norm_is_refused_in_training_and_accepted_in_evaluation():
    network, target = BatchNormalised(), torch.zeros(5, 3)
    with pytest.raises(ValueError, match=r"BatchNorm1d at 'layers\.1'.*network\.eval\(\)"):
        align(network, target, torch.zeros(1, 4))
    assert align(network.eval(), target, torch.zeros(1, 4)).shape == (5, 4)


@pytest.mark.parametrize("start", [1, 5])
def test_any_function_that_mixes_the_batch_is_refused(start):
    with pytest.raises(ValueError, match="changes with its neighbours"):
        align(lambda r: r - 0.5 * r.mean(0, keepdim=True), torch.zeros(5, 3), torch.zeros(start, 3))


def test_dropout_with_a_shared_start_draws_a_mask_per_sample():
    network = nn.Sequential(nn.Dropout(0.5), nn.Linear(64, 64, bias=False))
    nn.init.eye_(network[1].weight)
    feature = align(network, torch.ones(4, 64), torch.zeros(1, 64), step_size=0.1)
    assert not torch.equal(feature[0] != 0, feature[1] != 0)


ZEROS = torch.zeros(1, 4)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"steps": -1}, ValueError, "steps: .* at least 0, got -1"),
        ({"steps": 2.0}, ValueError, "steps: .*got 2.0"),
        ({"step_size": -1.0}, ValueError, "step_size: .*greater than 0, got -1.0"),
        ({"step_size": float("nan")}, ValueError, "step_size: .*got nan"),
        ({"step_size": torch.tensor(-1.0)}, ValueError, "step_size: expected finite numbers greater than 0, got -1.0"),
        ({"max_step": torch.tensor([-1.0])}, ValueError, r"max_step: expected finite numbers .*, got \[-1.0\]"),
        ({"step_size": [1.0, 2.0], "steps": 3}, ValueError, "expected 3 values, one per step, got 2"),
        ({"step_size": torch.ones(2), "steps": 3}, ValueError, r"shape \(3,\).*got shape \(2,\)"),
        ({"start": torch.zeros(3, 4)}, ValueError, r"start: .*\(1, \.\.\.\).*\(2, \.\.\.\).*got \(3, 4\)"),
        ({"start": torch.zeros(1, 4, dtype=torch.long)}, TypeError, "start: .*floating-point.*int64"),
        ({"start": torch.full((1, 4), torch.inf)}, ValueError, "start: 4 non-finite values, the first in sample 0"),
        ({"target": torch.zeros(2, 7)}, ValueError, r"target: expected shape \(2, 3\).*got \(2, 7\)"),
        (
            {"target": torch.zeros(2, 3, dtype=torch.float64)},
            TypeError,
            "target: expected dtype torch.float32.*float64",
        ),
        ({"target": {"z": torch.zeros(2, 3)}}, ValueError, "target: expected the structure.*Tensor, got {'z': Tensor}"),
        ({"target": (torch.zeros(2, 3), torch.zeros(1, 3))}, ValueError, r"target\[1\]: expected a batch of 2.*got 1"),
        ({"target": [1.0]}, TypeError, r"target\[0\]: expected a tensor, got float"),
        ({"target": ()}, ValueError, "target: expected at least one tensor"),
        ({"target": torch.tensor([[0, 0, 0], [0, torch.nan, 0]])}, ValueError, "target: 1 non-finite.*sample 1"),
        ({"network": lambda r: r.sum()}, ValueError, "network's output: expected the batch"),
        ({"network": lambda r: (r > 0)[:, :3]}, TypeError, "network's output: .*floating-point tensor, got torch.bool"),
        ({"network": lambda r: (r[:, :3] + 1) / 0 * r[:, :3]}, FloatingPointError, "not finite"),
    ],
)
def test_bad_input_is_named(arguments, error, message):
    network = nn.Linear(4, 3)
    call = {"network": network, "target": torch.zeros(2, 3), "start": ZEROS} | arguments
    with pytest.raises(error, match=message):
        align(**call)


def test_names_the_part_of_a_structure_that_does_not_fit():
    def network(r):
        return {"z": r, "class": r[:, :2]}

    with pytest.raises(ValueError, match=r"target\['class'\]: expected shape \(5, 2\).*got \(5, 3\)"):
        align(network, {"z": torch.zeros(5, 4), "class": torch.zeros(5, 3)}, torch.zeros(1, 4))


@pytest.mark.parametrize("steps", [1, 6])
def test_a_diverging_step_size_warns_with_a_stable_one(steps):
    with pytest.warns(DivergenceWarning, match=r"1 of 2 samples grows, most in sample 1.*below 0\.5 would be stable"):
        align(lambda r: 2 * r, torch.tensor([[0.0], [1.0]]), torch.zeros(1, 1), steps=steps, step_size=0.6)


def test_divergence_shows_only_once_the_worst_direction_dominates():
    """The first residual lies along the small singular value: the power iteration inside the flow finds the other."""
    weight = torch.tensor([[0.1, 0.0], [0.0, 2.0]])
    with pytest.warns(DivergenceWarning):
        align(lambda r: r @ weight, torch.tensor([[1.0, 1e-3]]), torch.zeros(1, 2), steps=20, step_size=0.9)


def test_a_flow_that_overflows_is_an_error():
    with pytest.warns(DivergenceWarning), pytest.raises(FloatingPointError, match="step_size below 1e\\+20"):
        align(lambda r: r**3, torch.ones(1, 1), torch.ones(1, 1) * 2, steps=9, step_size=1e20)


def test_a_stable_flow_does_not_warn():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        align(lambda r: 2 * r, torch.ones(3, 1), torch.zeros(1, 1), steps=50, step_size=0.49)


def test_autocast_chooses_the_dtype_of_the_output():
    network, images = nn.Linear(8, 4), torch.rand(3, 8)
    with torch.autocast("cpu", torch.bfloat16):
        feature = align(network, network(images).float(), torch.zeros(1, 8))
    torch.testing.assert_close(feature.float(), (images @ network.weight.T) @ network.weight, rtol=0.05, atol=0.02)


@pytest.mark.parametrize("bound", [0.3, torch.tensor(46.0, requires_grad=True)])
def test_a_bound_has_finite_derivatives_where_there_is_no_step(bound):
    """Under a saturated squashing a sample's gradient is exactly 0; its share of the training's must not be NaN."""
    network = nn.Linear(4, 3)
    start = torch.tensor([[1e5, -1e5, 1e5, 1e5], [0.1, 0.2, -0.1, 0.0]], requires_grad=True)
    feature = align(network, torch.ones(2, 3), start, max_step=bound, squash=torch.sigmoid, check=False)
    sought = [start, network.weight, *([bound] if isinstance(bound, torch.Tensor) else [])]
    gradients = torch.autograd.grad(feature.sum(), sought, create_graph=True)
    assert all(each.isfinite().all() for each in gradients)
    assert all(each.isfinite().all() for each in torch.autograd.grad(gradients[1].square().sum(), sought))


def test_a_bounded_step_is_the_step_scaled_down_to_it():
    gradient = torch.randn(5, 2, 3, dtype=torch.double, requires_grad=True)
    size, bound = (torch.tensor(value, dtype=torch.double, requires_grad=True) for value in (0.7, 1.2))
    steps = (limited(size, gradient, bound) * gradient).flatten(1)
    for step, each in zip(steps, gradient.detach().flatten(1), strict=True):
        torch.testing.assert_close(step, 0.7 * each * min(1.0, 1.2 / float((0.7 * each).norm())))
    assert torch.autograd.gradcheck(lambda *given: limited(*given) * given[1], (size, gradient, bound))
    assert torch.autograd.gradgradcheck(lambda *given: limited(*given) * given[1], (size, gradient, bound))


def test_a_squash_in_place_leaves_the_start():
    start, network = torch.zeros(1, 4), nn.Linear(4, 2)
    for steps in (0, 1):
        align(network, torch.zeros(2, 2), start, steps=steps, squash=nn.Hardsigmoid(inplace=True))
        assert torch.equal(start, torch.zeros(1, 4))


def test_a_lazy_network_is_named():
    with pytest.raises(ValueError, match=r"'0\.weight' is of a lazy module"):
        align(nn.Sequential(nn.LazyLinear(3)), torch.zeros(2, 3), torch.zeros(1, 4))


@pytest.mark.parametrize("count", [2, 5])  # fewer and more samples than outputs
def test_a_feature_has_the_dtype_of_its_start(count):
    layer = torch.nn.Linear(6, 3)
    start = torch.zeros(1, 6, dtype=torch.bfloat16)
    assert align(lambda r: layer(r.float()), torch.zeros(count, 3), start).dtype == torch.bfloat16


def test_recomputing_has_no_effect_under_torch_func():
    start, target = torch.zeros(1, 6), torch.zeros(2, 3)

    def loss(weight, recompute):
        return align(lambda r: (r @ weight).tanh() + 1, target, start, steps=2, recompute=recompute).square().sum()

    found, expected = (torch.func.grad(loss)(torch.ones(6, 3) / 9, each) for each in (True, False))
    torch.testing.assert_close(found, expected)
    assert expected.abs().sum() > 0
