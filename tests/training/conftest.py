"""Small trainings on 48 random images of 8 x 8 pixels."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from feature_alignment.data import Batches, DataOptions, Images
from feature_alignment.models import FA, Model
from feature_alignment.training import TrainingOptions


class Data(SimpleNamespace):
    """What :func:`fit` needs of the training data, without loading any."""

    def batches(self, seed, device="cpu", rank=0, world_size=1):
        return Batches(self.train, self.batch_size, seed, device, rank, world_size)


@pytest.fixture
def tiny():
    """Random images without labels."""
    pixels = torch.randint(256, (48, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    images = Images("squares", "train", pixels, None, ())
    return Data(train=images, classes=0, batch_size=8, options=DataOptions("squares", 8))


@pytest.fixture
def small():
    """Make a model and the options of a training of ten updates."""

    def make(kind=FA, **changes):
        torch.manual_seed(0)
        return kind((1, 8, 8), latent=3, channels=(4,), width=8, **changes)

    return make


@pytest.fixture
def ten():
    def make(**changes):
        given = {"steps": 10, "accelerator": "cpu", "devices": 1, "log_every": 2, "checkpoint_every": 4} | changes
        return TrainingOptions(**given)

    return make


@pytest.fixture
def same():
    """Compare two finished runs: weights and log, bit for bit."""

    def compare(left, right):
        one, other = (Model.from_pretrained(each.directory).state_dict() for each in (left, right))
        equal = all(torch.equal(value, other[name]) for name, value in one.items())
        return equal and left.log.read_bytes() == right.log.read_bytes()

    return compare
