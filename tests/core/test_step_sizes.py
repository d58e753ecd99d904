"""Rules for step sizes, each against its formula."""

from __future__ import annotations

import pytest
import torch

from feature_alignment import align
from feature_alignment.core import step_sizes
from feature_alignment.core.step_sizes import step_rule


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
