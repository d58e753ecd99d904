"""What a training is given: splits, shape, classes and batches from the options."""

from __future__ import annotations

import pytest
import torch

from feature_alignment.data import DataError, DataOptions, TrainingData, load


def test_the_options_choose_splits_shape_and_classes():
    data = TrainingData(DataOptions("mnist-mini", batch_size=100, image_size=16, channels=3))
    assert data.image_shape == data.train.shape == data.test().shape == (3, 16, 16)
    assert data.classes == 10
    assert torch.equal(data.test().pixels, load("mnist-mini", "test", image_size=16, channels=3).pixels)


def test_an_epoch_of_batches_has_every_class_as_often_as_the_set():
    batches = TrainingData(DataOptions("mnist-mini", batch_size=100)).batches(seed=0)
    assert len(batches) == 45
    labels = torch.cat([batches.batch(update)[1] for update in range(45)])
    assert torch.bincount(labels).tolist() == [450] * 10


def test_without_labels_the_batches_have_none_and_the_split_keeps_its_own():
    data = TrainingData(DataOptions("mnist-mini", batch_size=100, labels=False))
    assert data.classes == 0
    assert data.batches(seed=0).batch(0)[1] is None
    assert data.train.labels is not None


@pytest.mark.parametrize("batch_size", [0, 4501])
def test_a_batch_that_cannot_be_is_refused(batch_size):
    with pytest.raises(DataError, match=rf"batch_size: expected 1 to 4500, the .* of mnist-mini, got {batch_size}"):
        TrainingData(DataOptions("mnist-mini", batch_size=batch_size))
