"""What PyTorch cannot differentiate twice is answered by the names of module and operation, where it is needed."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from feature_alignment import align, invert, largest_singular_value
from feature_alignment.core.pullback import NotDifferentiableError, explained, transposed, vjp


class Bag(nn.Module):
    """The derivative of embedding_bag by its weights has no derivative, and no other way either."""

    def __init__(self):
        super().__init__()
        self.table = nn.Parameter(torch.randn(6, 3))

    def forward(self, x):
        places = torch.arange(4).expand(len(x), 4)
        return functional.embedding_bag(places, self.table, per_sample_weights=x, mode="sum")


class Body(nn.Module):
    def __init__(self):
        super().__init__()
        self.before, self.bag = nn.Linear(4, 4), Bag()

    def forward(self, x):
        return self.bag(self.before(x).tanh())


MESSAGE = r"Bag at 'bag': PyTorch has no second derivative of aten::_embedding_bag_per_sample_weights_backward"


@pytest.mark.parametrize("samples", [1, 3])
def test_training_through_the_feature_names_module_and_operation(samples):
    network, start = Body(), torch.randn(samples, 4)
    target = torch.zeros(3, 3)
    feature = align(network, target, start)
    with torch.no_grad():
        torch.testing.assert_close(feature, align(network, target, start))  # without a second derivative it is well
    with pytest.raises(NotDifferentiableError, match=MESSAGE):
        feature.sum().backward()


def test_so_does_what_multiplies_by_the_jacobian():
    network, point = Body(), torch.randn(2, 4)
    with pytest.raises(NotDifferentiableError, match=MESSAGE):
        largest_singular_value(network, point)
    output, pull_back = vjp(network, point)
    with pytest.raises(NotDifferentiableError, match=MESSAGE), explained(network, point):
        transposed(pull_back, output)(point)


def test_inputs_that_are_not_used_do_not_hide_the_name():
    class Careless(nn.Module):
        def __init__(self):
            super().__init__()
            self.bag, self.weight = BagOfTwo(), nn.Parameter(torch.ones(4))

        def forward(self, x):
            return self.bag(x.tanh(), self.weight)

    class BagOfTwo(Bag):
        def forward(self, x, unused):
            return super().forward(x)

    feature = align(Careless(), torch.zeros(3, 3), torch.randn(1, 4))
    with pytest.raises(NotDifferentiableError, match=MESSAGE.replace("Bag at", "BagOfTwo at")):
        feature.sum().backward()


class Bessel(nn.Module):
    def forward(self, x):
        return torch.special.bessel_j0(x)


def test_what_has_no_derivative_at_all_is_named():
    network = nn.Sequential(nn.Linear(4, 3), nn.Sequential(Bessel()))
    with pytest.raises(NotDifferentiableError, match="Bessel: PyTorch has no derivative of"):
        align(network, torch.zeros(3, 3), torch.zeros(1, 4))


@pytest.mark.parametrize("frozen", [True, False])
@pytest.mark.parametrize("solve", [align, invert])
def test_an_output_with_a_graph_that_does_not_lead_to_the_input_is_refused(solve, frozen):
    layer = nn.Linear(4, 3).requires_grad_(not frozen)
    with pytest.raises(NotDifferentiableError, match="no derivative of its output with respect to its input; look for"):
        solve(lambda x: layer(x.detach()), torch.zeros(2, 3), torch.ones(2, 4))
    start = torch.ones(2, 4)
    assert not torch.equal(align(lambda x: layer(x.detach().add_(x)), torch.zeros(2, 3), start), start)
    assert not torch.equal(
        align(lambda x: (layer(x.mul_(2)), layer(x.detach())), (torch.zeros(2, 3),) * 2, start), start
    )


class Step(nn.Module):
    def forward(self, x):
        return torch.heaviside(x, torch.zeros(()))


class Gamma(nn.Module):
    def forward(self, x):
        return torch.special.gammainc(1 + x.square(), x.square())


@pytest.mark.parametrize("start", [1, 3])
@pytest.mark.parametrize(("kind", "operation"), [(Step, "aten::heaviside"), (Gamma, "igamma: input")])
def test_what_raises_in_the_first_derivative_is_named(kind, operation, start):
    network = nn.Sequential(nn.Linear(4, 3), kind())
    words = rf"{kind.__name__}: PyTorch has no derivative of {operation}; replace it by"
    with pytest.raises(NotDifferentiableError, match=words):
        align(network, torch.zeros(3, 3), torch.randn(start, 4))


def test_of_a_function_the_operation_is_named():
    bag = Bag()
    feature = align(lambda x: bag(x), torch.zeros(3, 3), torch.zeros(1, 4), check=False)
    with pytest.raises(RuntimeError, match=r"no second derivative of aten::_embedding_bag_per_sample_weights_backward"):
        feature.sum().backward()


def test_other_errors_are_left_as_they_are():
    with pytest.raises(RuntimeError, match="something else"), explained(nn.Identity(), torch.zeros(1)):
        raise RuntimeError("something else")
