"""A network that fails on the way: what was found until then is kept, and said to be kept in one line."""

from __future__ import annotations

import warnings

import pytest
import torch
from once import Once
from torch import nn
from torch.nn import functional

from feature_alignment import invert
from feature_alignment.core.inversion import SOLVERS

METHODS = ("auto", *SOLVERS)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


class OnceAndVmapped(torch.autograd.Function):
    """The same in the style that torch.func takes: the backward of its backward raises."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x):
        return x.tanh()

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(inputs[0])

    @staticmethod
    def backward(ctx, cotangent):
        return Refusing.apply(cotangent, 1 - ctx.saved_tensors[0].tanh().square())


class Refusing(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(cotangent, slope):
        return cotangent * slope

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

    @staticmethod
    def backward(ctx, tangent):
        raise NotImplementedError("derivative for aten::refusing is not implemented")


def linear(outputs=6, inputs=8):
    return nn.Linear(inputs, outputs).double()


def residuals(network, found, target):
    with torch.no_grad():
        return (network(found.input) - target).norm(dim=1) / target.norm(dim=1)


def test_zeros_for_j_v_are_noticed():
    """What PyTorch returns, without an error, where a function is marked ``once_differentiable``."""
    layer = linear()
    target = layer(torch.randn(2, 8).double()).tanh().detach()
    with pytest.raises(RuntimeError, match="second derivative"):
        invert(lambda r: Once.apply(layer(r)), target, torch.zeros(1, 8).double(), method="gauss_newton")
    assert bool(invert(lambda r: Once.apply(layer(r)), target, torch.zeros(1, 8).double()).converged.all())


def test_samples_that_were_solved_survive_a_solver_that_cannot_go_on():
    layer = linear()

    def network(r):
        return OnceAndVmapped.apply(layer(r))

    target = network(torch.randn(3, 8).double()).detach()
    target[1] = 2.0  # no tangent is that large: only Gauss-Newton is left to try, and has no J
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = invert(network, target, torch.zeros(1, 8).double(), 1e-4, 400)
    assert found.converged.tolist() == [True, False, True]
    torch.testing.assert_close(found.residual, residuals(network, found, target))
    assert float(found.residual[1]) < 0.7  # and what is known of the others is kept, too
    (message,) = [str(each.message) for each in caught if each.category is RuntimeWarning]
    assert message.startswith("gauss_newton failed for 1 of 3 samples, first for sample 1")
    assert "\n" not in message


@pytest.mark.parametrize("method", ["auto", "gauss_newton"])
def test_a_target_out_of_reach_of_attention_loses_no_other(method):
    """All the way to Gauss-Newton, which multiplies by the Jacobian: the fused kernel has no second derivative."""
    into = linear(18, 8)

    def network(r):
        q, k, v = into(r).unflatten(1, (3, 1, 3, 2)).unbind(1)
        return functional.scaled_dot_product_attention(q, k, v).flatten(1).tanh()

    target = network(0.3 * torch.randn(3, 8).double()).detach()
    target[1] = 2.0
    found = invert(network, target, torch.zeros(1, 8).double(), 1e-3, 300, method=method)
    assert found.converged.tolist() == [True, False, True]
    torch.testing.assert_close(found.residual, residuals(network, found, target))


@pytest.mark.parametrize("method", METHODS)
def test_a_sample_at_which_the_network_raises_is_lost_alone(method):
    """The network refuses points beyond a radius, which one sample's target lies outside of."""
    layer = linear(4, 4)
    nn.init.orthogonal_(layer.weight)

    def network(r):
        if bool((r.norm(dim=1) > 5).any()):
            raise ValueError("beyond what I was made for")
        return layer(r)

    inside = torch.nn.functional.normalize(torch.randn(4, 4).double())
    target = layer(inside).detach()
    target[2] = layer(40 * inside[2]).detach()
    with pytest.warns(RuntimeWarning, match="failed for 1 of 4 samples, first for sample 2.*beyond what I was made"):
        found = invert(network, target, torch.zeros(1, 4).double(), 1e-6, 2000, method=method)
    assert found.converged.tolist() == [True, True, False, True]
    torch.testing.assert_close(found.input[[0, 1, 3]], inside[[0, 1, 3]], rtol=0, atol=1e-4)
    torch.testing.assert_close(found.residual, residuals(network, found, target))


def test_a_network_that_cannot_be_differentiated_at_all_says_so():
    class Never(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return 2 * x

        @staticmethod
        def backward(ctx, cotangent):
            raise NotImplementedError("derivative for aten::never is not implemented")

    with pytest.raises(Exception, match=r"derivative .*aten::never"):
        invert(lambda r: Never.apply(r), torch.ones(2, 3), torch.zeros(1, 3))


def test_running_out_of_memory_is_not_hidden():
    calls = 0

    def network(r):
        nonlocal calls
        calls += 1
        if calls > 6:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return r.tanh()

    with pytest.raises(torch.OutOfMemoryError):
        invert(network, torch.full((2, 3), 2.0), torch.zeros(1, 3))


def test_integer_outputs_are_refused():
    def network(r):
        return {"scores": r @ torch.eye(3), "label": r.argmax(1)}

    target = network(torch.randn(2, 3))
    with pytest.raises(TypeError, match=r"label.*floating"):
        invert(network, target, torch.zeros(1, 3))


def test_a_network_that_changes_from_call_to_call_is_not_called_solved():
    layer = linear()
    target = layer(torch.randn(1, 8).double()).detach()
    solved = 0

    def network(r):
        """Other from the second time on that the solution is seen: what is checked beforehand cannot find it."""
        nonlocal solved
        output = layer(r)
        solved += bool((output.detach() - target).norm() <= 1e-9 * target.norm())
        return output + 0.1 * (solved > 1)

    with pytest.warns(RuntimeWarning, match="a second evaluation of the same input differs, first for sample 0"):
        found = invert(network, target, torch.zeros(1, 8).double(), 1e-9)
    torch.testing.assert_close(found.residual, residuals(network, found, target))
    assert not bool(found.converged.any())


def test_a_residual_that_is_a_fifth_larger_in_a_second_evaluation_is_that_one():
    weight, target = torch.randn(12, 4).double(), torch.randn(1, 12).double()  # out of reach
    calls = 0

    def network(r, last=None):
        nonlocal calls
        calls += 1
        output = r @ weight.T
        return output if calls != last else output + 0.2 * (output - target)

    start = torch.zeros(1, 4).double()
    before = invert(network, target, start, 1e-9, 40)
    last, calls = calls, 0
    with pytest.warns(RuntimeWarning, match="a second evaluation of the same input differs, first for sample 0"):
        found = invert(lambda r: network(r, last), target, start, 1e-9, 40)
    torch.testing.assert_close(found.input, before.input)
    assert float(found.residual / before.residual) == pytest.approx(1.2, rel=0.01)


class WithinBounds(nn.Module):
    """Raises where a batch has an input of a first number above 2."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Linear(12, 4))

    def forward(self, x):
        if bool((x[:, 0] > 2).any()):
            raise RuntimeError("out of its domain")
        return self.layers(x)


@pytest.mark.filterwarnings("ignore:.*failed for 1 of 2 samples")
def test_a_neighbour_that_fails_costs_the_others_nothing():
    network = WithinBounds()
    start = torch.zeros(2, 6)
    start[1, 0] = 1.9  # whose first step leads out of the domain
    target = network(torch.randn(2, 6).clamp(-1, 1)).detach() + torch.tensor([[0.0], [5.0]])
    both = invert(network, target, start, max_evaluations=60)
    alone = invert(network, target[:1], start[:1], max_evaluations=60)
    assert both.evaluations[0] == alone.evaluations[0]
    torch.testing.assert_close(both.input[:1], alone.input)
