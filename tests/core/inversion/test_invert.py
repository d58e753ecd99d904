"""``invert`` against closed forms, with every evaluation of the network counted by the network itself."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from feature_alignment import Inversion, invert
from feature_alignment.models.networks import Encoder, orthogonal_

METHODS = ("auto", "gauss_newton", "anderson", "lbfgs", "gradient")
DESCENTS = ("auto", "gauss_newton", "lbfgs", "gradient")  # anderson gives up at the first step that fails


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def encoder():
    return nn.Sequential(
        nn.Conv2d(2, 3, 3, 2, 1), nn.SiLU(), nn.Conv2d(3, 4, 3, 1, 1), nn.Tanh(), nn.Flatten(), nn.Linear(36, 5)
    ).double()


def stretched(condition, outputs=12, inputs=30):
    """A linear map whose singular values fall from 1 to 1 / ``condition``, and its matrix."""
    left = torch.linalg.qr(torch.randn(outputs, outputs, dtype=torch.double))[0]
    right = torch.linalg.qr(torch.randn(inputs, outputs, dtype=torch.double))[0]
    values = torch.logspace(0, -math.log10(condition), outputs, dtype=torch.double)
    matrix = left @ values.diag() @ right.T
    return matrix, lambda r: r @ matrix.T


@torch.no_grad()
def relative(network, found, target):
    return (network(found.input) - target).norm(dim=1) / target.norm(dim=1)


class Counting(torch.autograd.Function):
    """A product with a matrix that counts itself, its pull-backs and the pull-backs of those: J."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x, matrix, counts):
        counts.forward += 1
        return x @ matrix.T

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.matrix, ctx.counts = inputs[1:]

    @staticmethod
    def backward(ctx, cotangent):
        return CountingBack.apply(cotangent, ctx.matrix, ctx.counts), None, None


class CountingBack(torch.autograd.Function):
    @staticmethod
    def forward(cotangent, matrix, counts):
        counts.pull += 1
        return cotangent @ matrix

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.matrix, ctx.counts = inputs[1:]

    @staticmethod
    def backward(ctx, tangent):
        ctx.counts.push += 1
        return tangent @ ctx.matrix.T, None, None


# --- closed forms -----------------------------------------------------------------------------------


@pytest.mark.parametrize("method", DESCENTS)
def test_a_linear_network_gives_the_nearest_solution(method):
    matrix, network = stretched(5)
    start, target = torch.randn(3, 30, dtype=torch.double), torch.randn(3, 12, dtype=torch.double)
    found = invert(network, target, start, 1e-10, 4000, method=method)
    assert bool(found.converged.all())
    # The solution nearest to the start: every step lies in the row space.
    nearest = start + (target - network(start)) @ torch.linalg.pinv(matrix).T
    torch.testing.assert_close(found.input, nearest, rtol=0, atol=1e-7)


@pytest.mark.parametrize("method", METHODS)
def test_inverts_a_convolutional_network(method):
    network = encoder()
    target = network(torch.randn(4, 2, 6, 6, dtype=torch.double)).detach()
    found = invert(network, target, torch.zeros(1, 2, 6, 6, dtype=torch.double), 1e-6, 20_000, method=method)
    assert bool(found.converged.all())
    assert found.input.shape == (4, 2, 6, 6)
    assert bool((relative(network, found, target) <= 1e-6).all())
    torch.testing.assert_close(relative(network, found, target), found.residual)


def test_an_ill_conditioned_network_where_the_plain_flow_stalls():
    _, network = stretched(1e3)
    start, target = torch.zeros(1, 30, dtype=torch.double), torch.randn(4, 12, dtype=torch.double)
    stalled = invert(network, target, start, max_evaluations=2000, method="gradient")
    assert not bool(stalled.converged.any())
    found = invert(network, target, start, max_evaluations=300)
    assert bool(found.converged.all())
    assert float(relative(network, found, target).max()) <= 1e-3


def test_auto_goes_on_where_anderson_gives_up():
    def network(r):
        return torch.stack([r[:, 0] + 0.1 * r[:, 1], 10 * (r[:, 1] - r[:, 0].square())], 1)

    start = torch.tensor([[-1.2, 1.0], [2.0, -3.0]], dtype=torch.double)
    target = network(torch.ones(2, 2, dtype=torch.double))
    gives_up = invert(network, target, start, 1e-8, method="anderson")
    assert not bool(gives_up.converged.all())
    assert int(gives_up.evaluations.max()) < 1000
    found = invert(network, target, start, 1e-8)
    assert bool(found.converged.all())
    assert float(relative(network, found, target).max()) <= 1e-8


# --- what is counted --------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("budget", [1, 2, 3, 7, 40, 400])
def test_counts_every_evaluation_and_never_spends_more(method, budget):
    matrix, _ = stretched(100)
    counts = SimpleNamespace(forward=0, pull=0, push=0)  # not a dict, which torch.func would copy
    target, start = torch.randn(1, 12, dtype=torch.double), torch.zeros(1, 30, dtype=torch.double)

    def network(r):
        return Counting.apply(r.tanh(), matrix, counts)

    assert int(invert(network, network(start), start).evaluations) == 1
    checks = counts.forward - 2  # what is evaluated although the start is the solution
    counts.forward = 0
    found = invert(network, target, start, 1e-6, budget, method=method)
    assert int(found.evaluations) == counts.forward - checks + counts.pull + counts.push <= budget
    assert budget < 40 or counts.pull > 2
    if method == "gauss_newton" and budget >= 40:
        assert counts.push > 2


def test_a_target_that_is_there_already_costs_one_evaluation():
    network = encoder()
    start = torch.randn(1, 2, 6, 6, dtype=torch.double)
    found = invert(network, network(start).detach(), start)
    assert (int(found.evaluations), float(found.residual), bool(found.converged)) == (1, 0.0, True)
    assert torch.equal(found.input, start)


@pytest.mark.parametrize(("method", "budget"), [("gradient", 19), ("lbfgs", 1), ("gauss_newton", 2)])
def test_a_solution_is_known_where_the_budget_does_not_let_a_solver_begin(method, budget):
    network, start = nn.Sequential(nn.Linear(8, 6), nn.Tanh()), torch.randn(2, 8)
    target = network(start).detach() + torch.tensor([[0.0], [0.1]])
    found = invert(network, target, start, max_evaluations=budget, method=method)
    assert found.converged.tolist() == [True, False]
    assert found.evaluations.tolist() == [0, 0]
    assert found.residual[1] == pytest.approx(float((network(start[1:]) - target[1:]).norm() / target[1].norm()))


@pytest.mark.parametrize("start", [torch.zeros(0, 8), torch.zeros(1, 8)])
def test_nothing_to_invert_is_no_error(start):
    assert invert(nn.Linear(8, 6), torch.zeros(0, 6), start).input.shape == (0, 8)


@pytest.mark.parametrize("method", METHODS)
def test_samples_do_not_depend_on_their_neighbours(method):
    network = encoder()
    start = torch.randn(5, 2, 6, 6, dtype=torch.double)
    target = network(torch.randn(5, 2, 6, 6, dtype=torch.double)).detach()
    target[1] = network(start[1:2])[0].detach()  # solved at once, while others go on
    target[3] *= 1e6  # out of reach
    together = invert(network, target, start, 1e-4, 200, method=method)
    assert together.converged[[0, 1, 2, 4]].all() or method in ("anderson", "gradient")
    assert not bool(together.converged[3])
    for i in range(5):
        alone = invert(network, target[i : i + 1], start[i : i + 1], 1e-4, 200, method=method)
        torch.testing.assert_close(alone.residual[0], together.residual[i], rtol=1e-3, atol=1e-6)
        if i != 3:
            assert int(alone.evaluations) == int(together.evaluations[i])
            torch.testing.assert_close(alone.input[0], together.input[i], rtol=0, atol=1e-4)


# --- targets of every kind --------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_a_target_that_no_input_has(method):
    matrix = torch.tensor([[1.0, 0.5], [2.0, 1.0], [0.0, 1.0]], dtype=torch.double)

    def network(r):
        return r @ matrix.T

    target = torch.tensor([[1.0, -1.0, 0.5]], dtype=torch.double)
    found = invert(network, target, torch.zeros(1, 2, dtype=torch.double), 1e-9, 500, method=method)
    assert not bool(found.converged)
    torch.testing.assert_close(found.residual, relative(network, found, target))
    least = torch.linalg.lstsq(matrix, target.T).solution
    smallest = float((network(least.T) - target).norm() / target.norm())
    assert float(found.residual) >= smallest - 1e-12
    if method != "anderson":  # which stops at the first step that fails
        assert float(found.residual) == pytest.approx(smallest, rel=1e-3)


def test_a_target_of_zeros_is_measured_absolutely():
    network = encoder()
    found = invert(network, torch.zeros(2, 5, dtype=torch.double), torch.rand(2, 2, 6, 6, dtype=torch.double), 1e-4)
    assert bool(found.converged.all())
    norm = network(found.input).norm(dim=1)
    torch.testing.assert_close(norm, found.residual)
    assert float(norm.detach().max()) <= 1e-4


def test_structured_targets():
    body, mean, scores = encoder(), nn.Linear(5, 3).double(), nn.Linear(5, 2).double()

    def network(r):
        hidden = body(r)
        return {"mean": mean(hidden), "scores": scores(hidden).view(-1, 2, 1)}

    target = {key: value.detach() for key, value in network(torch.rand(3, 2, 6, 6, dtype=torch.double)).items()}
    found = invert(network, target, torch.zeros(1, 2, 6, 6, dtype=torch.double), 1e-5)
    assert isinstance(found, Inversion)
    assert bool(found.converged.all())
    for key, value in network(found.input).items():
        assert float((value.detach() - target[key]).norm(dim=1).max()) < 1e-4


def test_own_layers_in_float32():
    network = nn.Sequential(Encoder((3, 16, 16), (8, 16), 64), nn.Linear(64, 16)).apply(orthogonal_)
    target = network(torch.rand(3, 3, 16, 16)).detach()
    for method in METHODS[:4]:
        found = invert(network, target, torch.zeros(1, 3, 16, 16), method=method)
        assert bool(found.converged.all()), method
        assert float(relative(network, found, target).detach().max()) <= 1.01e-3
        assert found.input.dtype == found.residual.dtype == torch.float32
        assert found.evaluations.dtype == torch.int64


@pytest.mark.parametrize("first", [[], [nn.Flatten()], [nn.Linear(6, 6)]])
def test_a_network_that_works_in_place(first):
    network = nn.Sequential(*first, nn.LeakyReLU(0.5, inplace=True), nn.Linear(6, 3)).double()
    start = torch.randn(4, 6, dtype=torch.double)
    kept, target = start.clone(), network(torch.randn(4, 6, dtype=torch.double)).detach()
    found = invert(network, target, start)
    assert torch.equal(start, kept)
    assert found.converged.all()
    residual = (network(found.input.clone()) - target).norm(dim=1) / target.norm(dim=1)
    torch.testing.assert_close(found.residual, residual)


def test_the_network_is_left_as_it_was():
    network = encoder()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    target = network(torch.rand(2, 2, 6, 6, dtype=torch.double))
    found = invert(network, target, torch.zeros(1, 2, 6, 6, dtype=torch.double))
    assert not found.input.requires_grad
    assert all(p.grad is None and p.requires_grad for p in network.parameters())
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_a_network_that_overflows_keeps_the_best_point():
    def network(r):
        return (50 * r).exp() - 1

    target = torch.tensor([[1e3, 1e-2]], dtype=torch.float32)
    for method in METHODS:
        found = invert(network, target, torch.zeros(1, 2), 1e-3, 200, method=method)
        assert bool(torch.isfinite(found.input).all()), method
        assert float(found.residual) <= 1.0, method


# --- what is refused --------------------------------------------------------------------------------


def batch_norm():
    return nn.Sequential(nn.Flatten(), nn.Linear(72, 5), nn.BatchNorm1d(5)).double()


def dropout():
    return nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(72, 5)).double()


def mixing(r):
    return r.flatten(1)[:, :5] + r.flatten(1)[:, :5].mean(0)


GOOD = {
    "target": torch.zeros(2, 5, dtype=torch.double),
    "start": torch.zeros(1, 2, 6, 6, dtype=torch.double),
}


@pytest.mark.parametrize(
    ("network", "changes", "error", "message"),
    [
        (batch_norm, {}, ValueError, "BatchNorm1d at '2'"),
        (dropout, {}, ValueError, "dropout"),
        (lambda: mixing, {}, ValueError, "changes with its neighbours"),
        (encoder, {"target": torch.zeros(2, 4).double()}, ValueError, r"expected shape \(2, 5\)"),
        (encoder, {"target": torch.zeros(2, 5)}, TypeError, "expected dtype torch.float64"),
        (encoder, {"target": torch.full((2, 5), math.nan).double()}, ValueError, "target: 10 non-finite"),
        (encoder, {"start": torch.zeros(3, 2, 6, 6).double()}, ValueError, "start: expected shape"),
        (encoder, {"start": torch.zeros(1, 2, 6, 6, dtype=torch.int64)}, TypeError, "start: expected a floating"),
        (encoder, {"start": torch.full((1, 2, 6, 6), math.inf).double()}, ValueError, "start: 72 non-finite"),
        (encoder, {"tol": 0.0}, ValueError, "tol: expected a finite number greater than 0, got 0.0"),
        (encoder, {"tol": math.nan}, ValueError, "tol: "),
        (encoder, {"max_evaluations": 0}, ValueError, "max_evaluations: expected a whole number of at least 1"),
        (encoder, {"max_evaluations": 2.5}, ValueError, "max_evaluations: "),
        (encoder, {"method": "newton"}, ValueError, "method: expected one of auto, gauss_newton"),
    ],
)
def test_bad_input_is_named(network, changes, error, message):
    with pytest.raises(error, match=message):
        invert(network(), **{**GOOD, **changes})


def test_batch_norm_and_dropout_in_eval_mode_are_inverted():
    network = nn.Sequential(nn.Flatten(), nn.Linear(72, 5), nn.BatchNorm1d(5), nn.Dropout(0.5)).double().eval()
    target = network(torch.randn(2, 2, 6, 6, dtype=torch.double)).detach()
    assert bool(invert(network, target, GOOD["start"]).converged.all())


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
@pytest.mark.parametrize("method", ["auto", "gauss_newton"])
def test_a_recurrent_network_in_single_precision(kind, method):
    """On a CPU, an LSTM of single precision is a fused kernel, whose derivatives torch.func refuses."""
    inside = kind(6, 5, batch_first=True)

    def network(x):
        return inside(x)[0][:, -1]

    target = network(torch.randn(3, 4, 6)).detach()
    found = invert(network, target, torch.zeros(1, 4, 6), method=method)
    assert found.converged.all()
    with torch.no_grad():
        assert ((network(found.input) - target).norm(dim=1) < 2e-3 * target.norm(dim=1)).all()


@pytest.mark.parametrize("method", ["auto", "anderson", "lbfgs", "gauss_newton", "gradient"])
def test_a_network_in_half_precision_whose_squared_errors_are_beyond_it(method):
    network = torch.nn.Linear(50, 40, bias=False)
    torch.nn.init.orthogonal_(network.weight)
    wanted = 100 * torch.randn(2, 40)
    network = network.half()
    found = invert(network, wanted.half(), torch.zeros(1, 50).half(), tol=1e-2, method=method)
    assert (found.input.dtype, bool(found.converged.all())) == (torch.half, True)
    residual = (network(found.input) - wanted.half()).float().norm(dim=1) / wanted.norm(dim=1)
    assert float(residual.max()) <= 1.1e-2
