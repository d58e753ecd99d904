"""Rules for step sizes, each against its formula."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from feature_alignment import align
from feature_alignment.core import step_sizes
from feature_alignment.core.step_sizes import Stable, limited, per_step, step_rule


def sizes(step_size, steps):
    rule = step_rule(step_size, steps)
    return [float(rule.size(lambda x: 2 * x, torch.ones(1, 3), step)) for step in range(1, steps + 1)]


def test_given_sizes_are_taken_in_turn():
    assert sizes(0.5, 2) == [0.5, 0.5]
    assert sizes([0.5, 0.25], 2) == [0.5, 0.25]
    assert sizes(torch.tensor(0.5), 2) == [0.5, 0.5]
    assert sizes(torch.tensor([0.5, 0.25]), 2) == [0.5, 0.25]


def test_a_stable_size_is_the_reciprocal_of_the_squared_singular_value():
    assert sizes("auto", 2) == pytest.approx([0.25, 0.25])


def test_a_new_rule_is_one_entry(monkeypatch):
    class Halving:
        def size(self, network, iterate, step):
            return 0.5**step

    monkeypatch.setitem(step_sizes.STEP_RULES, "halving", Halving)
    feature = align(lambda r: r, torch.ones(2, 3), torch.zeros(1, 3), steps=2, step_size="halving")
    torch.testing.assert_close(feature, torch.full((2, 3), 0.5 + 0.25 * 0.5))
    with pytest.raises(ValueError, match="expected numbers greater than 0 or auto or halving, got 'doubling'"):
        step_rule("doubling", 1)


@pytest.mark.parametrize("dtype", [torch.half, torch.bfloat16, torch.float32])
def test_a_bound_holds_for_steps_whose_square_is_beyond_the_dtype(dtype):
    """In half precision the square of 300 is infinite, and a step scaled down by it would be none."""
    gradient = torch.full((2, 4), 300.0, dtype=dtype)
    size = limited(1.0, gradient, 20.0)
    assert size.dtype == dtype
    torch.testing.assert_close((size * gradient).float().norm(dim=1), torch.full((2,), 20.0), rtol=1e-2, atol=0)


def test_a_stable_size_of_a_small_jacobian_is_not_limited_by_rounding():
    network = torch.nn.Linear(3, 3, bias=False)
    torch.nn.init.eye_(network.weight)
    with torch.no_grad():
        network.weight.mul_(1e-5)
    size = Stable().size(network, torch.zeros(1, 3), 1)
    torch.testing.assert_close(size, torch.full((1, 1), 1e10), rtol=1e-4, atol=0)


@pytest.mark.parametrize("given", [np.float32(0.5), np.float64(0.5), 0.5])
def test_a_number_of_any_kind_is_a_size_for_all_steps(given):
    assert [*per_step("step_size", given, 2)] == [0.5, 0.5]


def test_a_name_is_no_bound():
    with pytest.raises(ValueError, match="max_step: expected numbers greater than 0, got 'auto'"):
        per_step("max_step", "auto", 2)


@pytest.mark.parametrize("name", ["step_size", "max_step"])
def test_what_is_no_number_is_named(name):
    with pytest.raises(TypeError, match=f"{name}: expected a number, or one per step, got NoneType"):
        per_step(name, None, 2)
