"""The line search on parabolas, whose minima are known."""

from __future__ import annotations

import pytest
import torch

from feature_alignment.core.inversion.backtracking import SHORTEST, SUFFICIENT, Backtracking


def parabola(x, curvature):
    return curvature * x.square().sum(1) / 2


@pytest.mark.parametrize("interpolate", [True, False])
def test_a_step_too_long_is_shortened_until_the_value_falls(interpolate):
    point = torch.tensor([[1.0], [1.0], [1.0]], dtype=torch.double)
    curvature = torch.tensor([1.0, 5.0, 8.0], dtype=torch.double)
    line = Backtracking(point, parabola(point, curvature), interpolate=interpolate)
    line.follow(line.finished, -point * curvature.unsqueeze(1))  # the negative gradient
    lengths = [line.length]
    for _ in range(20):
        slope = -(point.flatten() * curvature).square()
        trial = line.trial()
        value = parabola(trial, curvature)
        accepted = line.accepts(value, slope) & ~line.finished
        line.advance(accepted | line.finished, torch.where(accepted.unsqueeze(1), trial, line.point), value, slope)
        lengths.append(line.length)
        if bool(line.finished.all()):
            break
    # The length a is good if the curvature times a is below 2; interpolated, it is the minimum, 1 / curvature.
    expected = [1.0, 0.2, 0.125] if interpolate else [1.0, 0.25, 0.125]
    reached = point.flatten() * (1 - curvature * torch.tensor(expected, dtype=torch.double))
    torch.testing.assert_close(line.point.flatten(), reached)


def test_each_sample_gives_up_by_itself():
    point = torch.zeros(2, 1)
    line = Backtracking(point, torch.tensor([1.0, 1.0]))
    line.follow(torch.tensor([True, False]), torch.ones(2, 1))
    assert line.finished.tolist() == [False, True]
    for _ in range(10):
        assert not bool(line.exhausted.any())
        rejected = line.accepts(torch.tensor([2.0, 0.0]), torch.tensor([-1.0, 1.0]))
        assert rejected.tolist() == [False, False]  # it rises; along an ascent nothing is accepted
        line.advance(rejected, line.trial(), torch.tensor([2.0, 0.0]), torch.tensor([-1.0, 1.0]))
    assert line.exhausted.tolist() == [True, False]
    assert float(line.length[0]) == 2.0**-10 < SHORTEST
    line.keep(torch.tensor([False, True]))
    assert line.finished.tolist() == [True]


def test_the_decrease_has_to_be_sufficient():
    line = Backtracking(torch.zeros(2, 1), torch.ones(2, dtype=torch.double))
    line.follow(line.finished, torch.ones(2, 1))
    values = 1 - SUFFICIENT * torch.tensor([1.01, 0.99], dtype=torch.double)
    assert line.accepts(values, -torch.ones(2)).tolist() == [True, False]
    assert line.accepts(torch.tensor([torch.nan, -torch.inf]), -torch.ones(2)).tolist() == [False, True]


def test_an_overflow_takes_a_step_between_the_bounds():
    line = Backtracking(torch.zeros(1, 1), torch.ones(1), interpolate=True)
    line.follow(line.finished, torch.ones(1, 1))
    for value in (torch.inf, torch.nan):
        before = float(line.length)
        line.advance(torch.tensor([False]), line.trial(), torch.tensor([value]), -torch.ones(1))
        assert 0.1 * before <= float(line.length) <= 0.5 * before + 1e-7


def test_an_interpolated_step_is_at_most_half_as_long():
    """Where the parabola's minimum lies beyond, as after a step that nearly sufficed, or where there is none."""
    line = Backtracking(torch.zeros(2, 1), torch.ones(2), interpolate=True)
    line.follow(line.finished, torch.ones(2, 1))
    line.advance(torch.tensor([False, False]), line.trial(), torch.tensor([0.3, -0.5]), -torch.ones(2))
    assert line.length.tolist() == [0.5, 0.5]
