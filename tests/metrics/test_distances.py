"""Distances of features against NumPy in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from naive_metrics import squared_discrepancy

from feature_alignment.metrics import frechet_distance, kernel_distance


def trace_of_root(one, two):
    """tr((one two)^1/2) as the sum of the singular values of one^1/2 two^1/2, which singular ones do not trouble."""

    def root(covariance):
        values, vectors = np.linalg.eigh(covariance)
        return vectors * np.sqrt(values.clip(0)) @ vectors.T

    return np.linalg.svd(root(one) @ root(two), compute_uv=False).sum()


@pytest.mark.parametrize(("count", "features"), [(400, 12), (30, 40)])  # the latter's covariances are singular
def test_frechet_distance_is_equation_8(count, features):
    draw = np.random.default_rng(0)
    one = draw.normal(size=(count, features)) @ draw.normal(size=(features, features)) + 1
    two = draw.normal(size=(count + 5, features)) @ draw.normal(size=(features, features))
    covariances = np.cov(one, rowvar=False), np.cov(two, rowvar=False)
    expected = ((one.mean(0) - two.mean(0)) ** 2).sum() + np.trace(sum(covariances)) - 2 * trace_of_root(*covariances)
    assert frechet_distance(torch.tensor(one), torch.tensor(two)) == pytest.approx(expected, rel=1e-6)
    assert frechet_distance(torch.tensor(one), torch.tensor(one)) == pytest.approx(0, abs=1e-3)
    with pytest.raises(ValueError, match=f"expected two images or more, got 1 and {count + 5}"):
        frechet_distance(torch.tensor(one[:1]), torch.tensor(two))


def test_kernel_distance_is_its_definition():
    draw = np.random.default_rng(0)
    one, two = draw.normal(size=(20, 6)), draw.normal(size=(20, 6)) + 0.5
    state = torch.get_rng_state()
    found = kernel_distance(torch.tensor(one), torch.tensor(two))
    assert found == pytest.approx(squared_discrepancy(one, two), rel=1e-9)
    # The mean over many subsets of larger sets is close to the estimate from all of them.
    large, other = torch.from_numpy(draw.normal(size=(2, 2000, 6)))
    one_by_one, across = ((large @ each.T / 6 + 1) ** 3 for each in (large, other))
    both = one_by_one.sum() - one_by_one.trace() + ((other @ other.T / 6 + 1) ** 3).fill_diagonal_(0).sum()
    several = kernel_distance(large, other)
    assert several == pytest.approx(float(both / (2000 * 1999) - 2 * across.mean()), abs=1e-3)
    assert torch.equal(state, torch.get_rng_state())
    torch.rand(1)
    assert several == kernel_distance(large, other)
    with pytest.raises(ValueError, match="expected two images or more, got 1 and 20"):
        kernel_distance(torch.tensor(one[:1]), torch.tensor(two))


@pytest.mark.parametrize("distance", [frechet_distance, kernel_distance])
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_features_that_are_not_finite_are_counted_and_named(distance, value):
    real, generated = torch.randn(8, 3), torch.randn(6, 3)
    generated[[1, 4], 2] = value
    with pytest.raises(ValueError, match="generated: 2 of 6 images have features that are not finite"):
        distance(real, generated)
    with pytest.raises(ValueError, match="real: 2 of 6 images"):
        distance(generated, real)
