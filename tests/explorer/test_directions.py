"""The directions of the sliders, against a covariance that is known."""

from __future__ import annotations

import torch

from feature_alignment.explorer.directions import directions_of


def test_they_are_the_eigenvectors_of_the_latents_covariance(conditional):
    torch.manual_seed(1)
    latents = (torch.randn(500, 5) * torch.tensor([1.0, 5.0, 0.1, 3.0, 2.0]) + 7).double()
    latents = latents @ torch.linalg.qr(torch.randn(5, 5).double()).Q
    conditional.samplers["gaussian"].fit(latents.float())
    found = directions_of(conditional, 3)
    centred = latents - latents.mean(0)
    _, singular, rows = torch.linalg.svd(centred, full_matrices=False)
    assert torch.allclose(found.deviations.double(), singular[:3] / 499**0.5, rtol=1e-4)
    assert torch.allclose((found.vectors.double() @ rows[:3].T).abs(), torch.eye(3).double(), atol=1e-3)
    assert torch.allclose(found.mean.double(), latents.mean(0), atol=1e-4)
    assert "Principal directions" in found.source
    # The coordinates of the latents are uncorrelated, of unit variance.
    coordinates = found.coordinates(latents.float())
    assert torch.allclose(coordinates.T.cov(), torch.eye(3), atol=1e-3)


def test_moving_changes_one_coordinate_alone(conditional):
    found = directions_of(conditional, 5)
    latent, change = torch.randn(1, 5), torch.tensor([[0.0, 2.0, 0.0, 0.0, -1.0]])
    moved = found.coordinates(found.move(latent, change)) - found.coordinates(latent)
    assert torch.allclose(moved, change, atol=1e-4)


def test_directions_without_variance_have_no_slider(conditional):
    latents = torch.randn(50, 5) * torch.tensor([1.0, 2.0, 0.0, 0.0, 0.0])
    conditional.samplers["gaussian"].fit(latents)
    assert len(directions_of(conditional, 5)) == 2


def test_without_a_covariance_they_are_axes_and_this_is_said(plain):
    found = directions_of(plain, 3)
    assert torch.equal(found.vectors, torch.eye(4)[:3])
    assert torch.equal(found.move(torch.ones(1, 4), torch.tensor([[0.0, 3.0, 0.0]])), torch.tensor([[1.0, 4, 1, 1]]))
    assert "no covariance" in found.source
