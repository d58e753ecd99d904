"""Starts by name: shapes and distributions."""

from __future__ import annotations

import pytest
import torch

from feature_alignment.core.starts import as_shared, draw_start


def test_shared_starts_are_one():
    given = torch.randn(2, 3, requires_grad=True)
    assert torch.equal(draw_start("zeros", given, 5), torch.zeros(1, 2, 3))
    for kind in ("learned", "given"):
        start = draw_start(kind, given, 5)
        assert torch.equal(start, given[None])
        assert torch.equal(torch.autograd.grad(start.sum(), given)[0], torch.ones(2, 3))


@pytest.mark.parametrize(("kind", "mean", "variance"), [("uniform", 0.5, 1 / 12), ("normal", 0.0, 1.0)])
def test_noise_is_each_samples_own(kind, mean, variance):
    torch.manual_seed(0)
    start = draw_start(kind, torch.zeros(2, 3, dtype=torch.double), 4000)
    assert start.shape == (4000, 2, 3)
    assert start.dtype == torch.double
    assert float(start.mean()) == pytest.approx(mean, abs=0.03)
    assert float(start.var()) == pytest.approx(variance, rel=0.05)
    assert not torch.equal(start[0], start[1])


def test_an_unknown_kind_is_answered_by_the_known():
    with pytest.raises(ValueError, match="start: expected one of zeros, learned, given, uniform, normal, got 'ones'"):
        draw_start("ones", torch.zeros(2), 1)


def test_an_expanded_start_is_one():
    one = torch.randn(1, 3)
    assert torch.equal(as_shared(one.expand(5, 3)), one)
    assert as_shared(one.repeat(5, 1)).shape == (5, 3)
