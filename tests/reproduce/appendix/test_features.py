"""Claim (a): its formulas against naive ones, its sentence against the numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from seeds import generator

import feature_alignment
from feature_alignment.reproduce.appendix import features
from feature_alignment.reproduce.appendix.layers import BOUND


@pytest.mark.parametrize("power", [1, 2, 5, 30])
def test_equation_16_is_the_recursion_of_equation_11(power):
    for w in (0.3, 1.0, 1.4, -1.6):
        r, a = 0.7, -1.3
        for _ in range(power):
            r += w * (a - w * r)
        found = features.equation_16(*(torch.tensor(each, dtype=torch.float64) for each in (0.7, w, -1.3)), power)
        assert float(found) == pytest.approx(r, rel=1e-10)


def test_features_of_one_weight():
    scalar = features.features([0, 1])["scalar"]
    assert scalar["largest_difference"] < 1e-12
    after = scalar["distance_after"]
    assert after["0.1"] == pytest.approx(0.99**100)
    assert after["1.4"] == pytest.approx(0.96**100)
    assert after["1.414"] == pytest.approx(1)  # on the bound the distance stays
    assert after["1.6"] == pytest.approx(1.56**100)
    for name, line in scalar["distance"].items():
        w = BOUND if name == "1.414" else float(name)
        expected = [abs(1 - w * w) ** power for power in scalar["steps"]]
        np.testing.assert_allclose(line, expected, rtol=1e-6, atol=1e-12)


def test_features_of_a_matrix():
    """Against least squares and plain gradient descent in NumPy, on matrices of the same generator."""
    found = features.features([3])["matrix"]["wide 12x30"]
    draws = generator(3)
    matrix = torch.randn(12, 30, generator=draws, dtype=torch.float64).numpy() / math.sqrt(30)
    z = torch.randn(1, 12, generator=draws, dtype=torch.float64).numpy()[0]
    start = torch.randn(1, 30, generator=draws, dtype=torch.float64).numpy()[0]
    limit = start + np.linalg.lstsq(matrix, z - matrix @ start, rcond=None)[0]
    np.testing.assert_allclose(matrix @ limit, z)
    for run in found["step_sizes"].values():
        r, distance = start, []
        for step in range(1, 101):
            r = r - run["step_size"][0] * matrix.T @ (matrix @ r - z)
            if step in found["steps"]:
                distance.append(np.linalg.norm(r - limit) / np.linalg.norm(start - limit))
        np.testing.assert_allclose(run["distance"][0][: len(distance)], distance, rtol=1e-6, atol=1e-12)
        assert run["largest_difference"] < 1e-9
        assert run["rate"][0] == pytest.approx(run["rate_expected"][0], abs=0.02)
    top = np.linalg.eigvalsh(matrix @ matrix.T)[-1]
    sizes = found["step_sizes"]
    assert found["largest_singular_value"][0] ** 2 == pytest.approx(top)
    assert found["largest_entry"][0] == np.abs(matrix).max() < BOUND
    assert [sizes[name]["diverged"] for name in ("1/sigma^2", "1.9/sigma^2", "2.1/sigma^2")] == [0, 0, 1]
    assert sizes["1"]["rate_expected"][0] == pytest.approx(np.abs(1 - np.linalg.eigvalsh(matrix @ matrix.T)).max())


def test_features_says_so_if_the_iteration_is_another(monkeypatch):
    assert "Equation 16 holds" in features.features([0])["holds"]

    def half(network, target, start, *, steps, step_size=1.0, check):
        return feature_alignment.align(network, target, start, steps=steps, step_size=step_size / 2, check=check)

    monkeypatch.setattr(features, "align", half)
    assert "Equation 16 DOES NOT hold" in features.features([0])["holds"]
