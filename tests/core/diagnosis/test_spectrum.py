"""Singular values of Jacobians, against matrices that are made of them and numpy's decomposition."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from feature_alignment.core.diagnosis import WHOLE, spectrum


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def orthonormal(size, count):
    return torch.linalg.qr(torch.randn(size, count, dtype=torch.double))[0]


def made_of(values, outputs, inputs):
    """A linear network with these singular values."""
    matrix = orthonormal(outputs, len(values)) @ torch.diag(values) @ orthonormal(inputs, len(values)).T
    network = nn.Linear(inputs, outputs, bias=False).double()
    network.weight.data = matrix
    return network


def test_singular_values_and_effective_rank_of_a_few_outputs_are_exact():
    values = torch.tensor([5.0, 3.0, 2.0, 0.5]).double()
    found = spectrum(made_of(values, 4, 9), torch.randn(2, 9).double())
    rank = float((25 + 9 + 4 + 0.25) ** 2 / (625 + 81 + 16 + 0.0625))
    torch.testing.assert_close(found.effective_rank, torch.full((2,), rank).double())
    torch.testing.assert_close(found.largest, torch.full((2,), 5.0).double())
    torch.testing.assert_close(found.smallest, torch.full((2,), 0.5).double())
    assert found.standard_error.tolist() == [0, 0]


def test_a_jacobian_that_changes_with_the_image_is_that_of_automatic_differentiation():
    network = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Tanh(), nn.Flatten(), nn.Linear(48, 7), nn.Softplus()).double()
    images = torch.rand(3, 2, 6, 6).double()
    found = spectrum(network, images)
    for place, image in enumerate(images.split(1)):
        matrix = torch.autograd.functional.jacobian(network, image).reshape(7, 72).numpy()
        values = np.linalg.svd(matrix, compute_uv=False)
        assert float(found.largest[place]) == pytest.approx(values[0], rel=1e-10)
        assert float(found.smallest[place]) == pytest.approx(values[-1], rel=1e-8)
        assert float(found.effective_rank[place]) == pytest.approx(
            (values**2).sum() ** 2 / (values**4).sum(), rel=1e-10
        )


def test_an_orthogonal_network_has_its_size_as_rank():
    network = nn.Linear(20, 20, bias=False).double()
    network.weight.data = orthonormal(20, 20)
    found = spectrum(network, torch.randn(1, 20).double())
    numbers = torch.cat([found.effective_rank, found.largest, found.smallest])
    torch.testing.assert_close(numbers, torch.tensor([20.0, 1, 1]).double())


def test_many_outputs_are_probed_without_bias_and_with_the_error_they_have():
    """Of 400 equal points each has probes of its own: the estimates scatter as their standard errors say."""
    values = torch.linspace(4, 0.5, 30).double()
    network = made_of(values, WHOLE + 88, 40)
    squares = values.square()
    exact = float(squares.sum() ** 2 / squares.square().sum())
    found = spectrum(network, torch.zeros(400, 40).double(), probes=16)
    off = found.effective_rank - exact
    assert abs(float(off.mean())) < 4 * float(off.std()) / 20
    assert 0.8 < float(off.std() / found.standard_error.square().mean().sqrt()) < 1.25
    assert 0.02 < float(off.std()) / exact < 0.3
    torch.testing.assert_close(found.largest, torch.full((400,), 4.0).double(), rtol=2e-2, atol=0)
    assert bool((found.largest <= 4 + 1e-9).all())
    assert found.smallest is None
    more = spectrum(network, torch.zeros(400, 40).double(), probes=64)
    assert float((more.effective_rank - exact).std()) == pytest.approx(float(off.std()) / 2, rel=0.25)


def test_a_network_that_ignores_its_input_has_rank_0():
    few, many = (nn.Linear(4, outputs) for outputs in (3, WHOLE + 1))
    for network in (few, many):
        nn.init.zeros_(network.weight)
        assert float(spectrum(network, torch.zeros(1, 4)).effective_rank) == 0


def test_one_probe_has_no_error():
    with pytest.raises(ValueError, match="probes: expected at least 2, got 1"):
        spectrum(nn.Linear(4, 3), torch.zeros(1, 4), probes=1)


def test_the_error_is_the_jackknifes():
    """Against the same probes, each left out in turn."""
    network = made_of(torch.linspace(4, 0.5, 30).double(), WHOLE + 88, 40)
    found = spectrum(network, torch.zeros(3, 40).double(), probes=5, seed=7)
    drawn, matrix = torch.Generator().manual_seed(7), network.weight.detach().numpy()
    signs = [2 * torch.randint(0, 2, (3, 40), generator=drawn).numpy() - 1.0 for _ in range(5)]
    assert found.evaluations.tolist() == [2 * (5 + 20) + 4] * 3
    for point in range(3):
        pushed = np.stack([matrix @ each[point] for each in signs])
        squares, fourths = (pushed**2).sum(1), ((pushed @ matrix) ** 2).sum(1)
        left = [np.delete(squares, k).mean() ** 2 / np.delete(fourths, k).mean() for k in range(5)]
        whole = squares.mean() ** 2 / fourths.mean()
        assert float(found.effective_rank[point]) == pytest.approx(5 * whole - 4 * np.mean(left))
        assert float(found.standard_error[point]) == pytest.approx(np.sqrt(4 / 5 * ((left - np.mean(left)) ** 2).sum()))


@pytest.mark.parametrize("dtype", [torch.half, torch.bfloat16])
@pytest.mark.parametrize("outputs", [6, 600])
def test_a_network_in_half_precision_has_the_spectrum_of_its_weights(dtype, outputs):
    network = nn.Linear(8, outputs, bias=False).to(dtype)
    found = spectrum(network, torch.zeros(1, 8, dtype=dtype))
    values = torch.linalg.svdvals(network.weight.detach().double())
    rank = float(values.square().sum() ** 2 / values.pow(4).sum())
    assert float(found.effective_rank) == pytest.approx(rank, rel=0.15)
    assert float(found.largest) == pytest.approx(float(values[0]), rel=0.05)


@pytest.mark.parametrize("scale", [1e-15, 1e15])
@pytest.mark.parametrize("outputs", [3, 600])
def test_very_small_and_very_large_singular_values_have_the_rank_of_others(outputs, scale):
    network = made_of(torch.tensor([3.0, 2.0, 1.0]).double(), outputs, 700).float()
    points = torch.rand(1, 700)
    usual = spectrum(network, points).effective_rank
    network.weight.data *= scale
    torch.testing.assert_close(spectrum(network, points).effective_rank, usual, rtol=1e-3, atol=0)
