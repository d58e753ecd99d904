"""Claim (c): against the closed form, and the bounds."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from seeds import generator

from feature_alignment.reproduce.appendix import clamp
from feature_alignment.reproduce.appendix.clamp import BOUNDS, over_seeds, train_bounded
from feature_alignment.reproduce.appendix.layers import linear


@pytest.mark.parametrize("unroll", [1, 3])
def test_error_of_the_weights_as_they_start(unroll):
    r"""Without training: :math:`x - \hat r = (I - W^\top W)^T x` for T steps from zero."""
    data = torch.rand(40, 9, generator=generator())
    run = train_bounded(data, 32, 8, unroll, "entries", 5, 0)
    w = linear(9, 32, "default", generator(5), 8).weight.detach().double().numpy()
    outside = np.abs(w) > math.sqrt(2)
    clamped = np.where(outside, np.sign(w) * math.sqrt(2), w)
    left = np.linalg.matrix_power(np.eye(9) - clamped.T @ clamped, unroll)
    assert run["error"] == pytest.approx(((data.double().numpy() @ left) ** 2).sum(1).mean(), rel=1e-3)
    assert run["touched"] == pytest.approx(outside.mean())
    assert 0.3 < outside.mean() < 0.6
    assert run["sigma_before"] == pytest.approx(np.linalg.svd(w)[1][0], rel=1e-5)
    assert run["sigma_bound"] == pytest.approx(np.linalg.svd(clamped)[1][0], rel=1e-5)


def test_spectral_bound():
    weight = torch.randn(6, 4, generator=generator()) * 3
    small = weight / 100
    bounded, unchanged = weight.clone(), small.clone()
    BOUNDS["spectral"](bounded)
    BOUNDS["spectral"](unchanged)
    assert np.linalg.svd(bounded.numpy())[1][0] == pytest.approx(math.sqrt(2), rel=1e-5)
    torch.testing.assert_close(bounded / bounded[0, 0], weight / weight[0, 0])
    assert torch.equal(unchanged, small)


@pytest.mark.parametrize("bound", ["none", "entries", "spectral"])
def test_the_bound_holds_after_every_step(bound):
    data = torch.rand(200, 9, generator=generator())
    run = train_bounded(data, 32, 8, 3, bound, 0, 30)
    assert (run["sigma_after"] <= math.sqrt(2) + 1e-5) == (bound == "spectral")
    assert run["sigma_bound"] <= run["sigma_before"]


def test_clamp_matters_for_one_weight_and_not_for_a_wide_layer(images):
    found = clamp.clamp(images, [0], 5)["layers"]
    # Entries of the default weights are below 1 / sqrt(n), those of the largest gain below 8 / sqrt(16).
    assert found["8x8 crops"]["gain_that_is_clamped"] == pytest.approx(math.sqrt(2) * 4)
    single = found["one weight"]
    for unroll in ("T=1", "T=3"):
        entries, spectral = single[unroll]["entries"], single[unroll]["spectral"]
        for gain in ("1", "2", "4", "8"):
            assert entries[gain]["failed"] == 0
            # A single weight is its own singular value.
            assert entries[gain]["error"]["mean"] == pytest.approx(spectral[gain]["error"]["mean"], rel=1e-3)
    patches = found["3x3 patches"]["T=3"]
    assert patches["entries"]["8"]["failed"] == 1
    assert patches["spectral"]["8"]["failed"] == 0
    assert patches["entries"]["2"] == patches["none"]["2"]


def test_failure_is_an_error_above_the_empty_image_or_none_at_all():
    runs = [{"error": error} for error in (0.5, 2.0, math.inf, math.nan)]
    assert over_seeds(runs, 1.0)["failed"] == 0.75
