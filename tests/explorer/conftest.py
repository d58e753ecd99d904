"""Small models for the explorer's page."""

from __future__ import annotations

import pytest
import torch

from feature_alignment.models import VAE, VFAGAN


@pytest.fixture
def conditional():
    """A model with classes, a refiner and fitted samplers."""
    torch.manual_seed(0)
    model = VFAGAN(
        (1, 8, 8), latent=5, classes=3, channels=(4,), width=8, refiner_filters=4, discriminator_width=8
    ).eval()  # fmt: skip
    model.class_names = ("cat", "<dog>", "owl")
    model.fit_samplers(torch.rand(60, 1, 8, 8), torch.arange(60) % 3)
    return model


@pytest.fixture
def plain():
    """A model without classes, refiner or fitted samplers."""
    torch.manual_seed(0)
    return VAE((3, 8, 8), latent=4, channels=(4,), width=8).eval()
