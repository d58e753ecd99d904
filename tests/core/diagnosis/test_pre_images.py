"""The generalised inverse of linear networks against Moore and Penrose, one step against its formula."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from feature_alignment import invert
from feature_alignment.core.diagnosis import Options, diagnose_layer, other_mean, pre_images


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def linear(outputs, inputs):
    return nn.Sequential(nn.Flatten(), nn.Linear(inputs, outputs)).double()


EXACT = Options(variables="pixels", tol=1e-10, max_evaluations=500)


def test_the_way_back_from_a_linear_network_is_the_projection_and_so_is_one_step():
    network, images = linear(5, 12), torch.rand(4, 1, 3, 4).double()
    grey = torch.full((1, 1, 3, 4), 0.5).double()
    found = diagnose_layer(network, "linear", images, grey, EXACT)
    matrix = network[1].weight.detach().numpy()
    away = (images - grey).flatten(1).numpy()
    projected = 0.5 + away @ (np.linalg.pinv(matrix) @ matrix).T
    for each in (found.pre_images, found.one_step):
        np.testing.assert_allclose(each.flatten(1).numpy(), projected, atol=1e-7)

    x = images.flatten(1).numpy()
    others = np.stack([np.delete(x, place, 0).mean(0) for place in range(4)])
    errors, scales = ((projected - x) ** 2).sum(1), ((others - x) ** 2).sum(1)
    assert found.information == pytest.approx(1 - errors.sum() / scales.sum(), abs=1e-7)
    assert found.information_of_one_step == pytest.approx(found.information, abs=1e-7)
    np.testing.assert_allclose(found.information_by_image, 1 - errors / scales, atol=1e-7)
    assert found.converged == 1
    assert found.residual < 1e-10
    assert found.repetition < 1e-7
    values = np.linalg.svd(matrix, compute_uv=False)
    assert found.effective_rank == pytest.approx((values**2).sum() ** 2 / (values**4).sum())
    assert found.largest_singular_value == pytest.approx(values[0])
    assert found.smallest_singular_value == pytest.approx(values[-1])
    assert (found.size, found.shape, found.clipped) == (5, (5,), None)


def test_an_orthogonal_network_keeps_everything():
    network = linear(12, 12)
    network[1].weight.data = torch.linalg.qr(torch.randn(12, 12).double())[0]
    images = torch.rand(3, 1, 3, 4).double()
    found = diagnose_layer(network, "rotation", images, torch.full_like(images[:1], 0.5), EXACT)
    torch.testing.assert_close(found.pre_images, images, atol=1e-8, rtol=0)
    assert found.information == pytest.approx(1)
    assert found.effective_rank == pytest.approx(12)
    assert found.smallest_singular_value == pytest.approx(found.largest_singular_value) == pytest.approx(1)


def test_one_step_is_that_of_gauss_and_newton_in_the_variables():
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 5), nn.Tanh()).double()
    images = (0.5 + 0.05 * torch.randn(3, 1, 3, 4)).double()
    grey = torch.full((1, 1, 3, 4), 0.5).double()
    found = pre_images(network, images, grey, "bounded", tol=1e-12, max_evaluations=200)
    jacobian = torch.autograd.functional.jacobian(network, grey).reshape(5, 12) / 4  # the slope of the sigmoid at 0
    residuals = (network(grey) - network(images)).detach()
    expected = torch.sigmoid(-(residuals @ torch.linalg.pinv(jacobian).T))
    torch.testing.assert_close(found.one_step.flatten(1), expected, atol=1e-6, rtol=0)
    assert not torch.allclose(found.one_step, found.input, atol=1e-4)
    numbers = diagnose_layer(network, "a", images, grey, Options(variables="bounded", tol=1e-12))
    errors, scales = ((each - images).square().sum() for each in (expected.view_as(images), other_mean(images, grey)))
    assert numbers.information_of_one_step == pytest.approx(1 - float(errors / scales), abs=1e-4)


def test_a_step_that_would_raise_the_error_is_shortened():
    def network(x):
        return torch.atan(20 * (x - 0.5))  # Newton's method from far away overshoots ever further

    image, start = torch.full((1, 1), 0.5).double(), torch.full((1, 1), 0.7).double()
    found = pre_images(network, image, start, "pixels", tol=1e-8, max_evaluations=50)
    before, after = (float(network(each).abs()) for each in (start, found.one_step))
    assert after < before
    assert float(network(start - (start - 0.5))) == 0


def test_repetition_and_residual_are_measured_again():
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.Sigmoid(), nn.Linear(8, 4)).double()
    images = torch.rand(2, 1, 3, 4).double()
    grey = torch.full((1, 1, 3, 4), 0.5).double()
    found = pre_images(network, images, grey, "natural", tol=1e-3, max_evaluations=200)
    output, target = network(found.input), network(images)
    torch.testing.assert_close(found.residual, (output - target).norm(dim=1) / target.norm(dim=1))
    again = invert(network, output.detach(), grey, 1e-3, 200, variables="natural").input
    moved = (found.input - grey).flatten(1).norm(dim=1)
    torch.testing.assert_close(found.repetition, (again - found.input).flatten(1).norm(dim=1) / moved)


def test_one_image_is_compared_with_grey_and_so_are_copies():
    network = linear(5, 12)
    image, grey = torch.rand(1, 1, 3, 4).double(), torch.full((1, 1, 3, 4), 0.5).double()
    alone = diagnose_layer(network, "a", image, grey, EXACT)
    error = float((alone.pre_images - image).square().sum() / (grey - image).square().sum())
    assert alone.information == pytest.approx(1 - error)
    assert diagnose_layer(network, "a", image.repeat(2, 1, 1, 1), grey, EXACT).information == pytest.approx(1 - error)
    torch.testing.assert_close(other_mean(torch.tensor([[1.0], [3.0]]), torch.zeros(1, 1)), torch.tensor([[3.0], [1]]))


def test_images_are_measured_in_parts():
    network, images = linear(5, 12), torch.rand(5, 1, 3, 4).double()
    grey = torch.full((1, 1, 3, 4), 0.5).double()
    whole, parts = (
        diagnose_layer(network, "a", images, grey, Options(**{**vars(EXACT), "batch_size": size})) for size in (5, 2)
    )
    torch.testing.assert_close(whole.pre_images, parts.pre_images, atol=1e-8, rtol=0)
    for name in ("information", "effective_rank", "smallest_singular_value", "clipped", "evaluations"):
        assert getattr(whole, name) == pytest.approx(getattr(parts, name), abs=1e-7), name
