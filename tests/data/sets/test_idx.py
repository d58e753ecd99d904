"""MNIST and Fashion-MNIST from files of their official layout."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from image_files import write_idx

from feature_alignment.data import DataError, cache_directory, compressed, load
from feature_alignment.data.sets import fashion_mnist


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize(("name", "last"), [("mnist", "9"), ("fashion-mnist", "Ankle boot")])
def test_mnist_and_fashion_mnist_from_idx_files(place, name, last, suffix):
    rng = np.random.default_rng(0)
    sizes = {"train": ("train", 7), "test": ("t10k", 3)}
    expected = {}
    for split, (part, count) in sizes.items():
        images, labels = rng.integers(0, 256, (count, 28, 28)), rng.integers(0, 10, count)
        write_idx(place / name / f"{part}-images-idx3-ubyte{suffix}", images)
        write_idx(place / name / f"{part}-labels-idx1-ubyte{suffix}", labels)
        expected[split] = images, labels
    for split, (images, labels) in expected.items():
        found = load(name, split)
        assert torch.equal(found.pixels[:, 0], torch.from_numpy(images).byte())
        assert found.labels.tolist() == labels.tolist()
        assert found.classes[9] == last


def test_a_damaged_idx_file_is_named_and_nothing_half_built_is_left(place):
    images, labels = (place / "mnist" / f"train-{kind}-ubyte" for kind in ("images-idx3", "labels-idx1"))
    write_idx(images, np.zeros((3, 28, 28)))
    for content, reason in [
        (b"", "not bytes in 1 dimensions"),
        (b"\0\0\x08\x03" + bytes(20), "not bytes in 1 dimensions"),  # images for labels
        (b"\0\0\x0d\x01\0\0\0\x03" + bytes(12), "not bytes"),  # floats
        (b"\0\0\x08\x01\0\0\0\x05" + bytes(3), "cannot reshape"),
        (b"\0\0\x08\x01\xff\xff\xff\xff" + bytes(3), "4,294,967,295 values cannot be in 11 bytes"),
        (b"\0\0\x08\x01\0", "requires a buffer of 4 bytes"),
    ]:
        labels.write_bytes(content)
        with pytest.raises(DataError, match=rf"train-labels-idx1-ubyte: not a readable IDX file \(.*{reason}"):
            load("mnist", "train")
    write_idx(labels, np.array([0, 1]))
    with pytest.raises(DataError, match="3 images and 2 labels"):
        load("mnist", "train")
    write_idx(labels, np.array([0, 1, 10]))
    with pytest.raises(DataError, match="labels from 0 to 10, expected 0 to 9"):
        load("mnist", "train")
    labels.unlink()
    labels.with_suffix(".gz").write_bytes(b"not gzip")
    with pytest.raises(DataError, match=r"train-labels-idx1-ubyte\.gz: not a readable IDX file"):
        load("mnist", "train")
    assert not list(cache_directory().iterdir())


def test_images_of_another_size_are_refused(place):
    images, labels = (place / "mnist" / f"train-{kind}-ubyte" for kind in ("images-idx3", "labels-idx1"))
    write_idx(labels, np.arange(3))
    for shape in ((3, 0, 28), (3, 28, 14)):
        write_idx(images, np.zeros(shape))
        with pytest.raises(DataError, match=rf"images of {shape[1]} x {shape[2]}, expected 28 x 28"):
            load("mnist", "train")


def test_a_damaged_or_bottomless_gzip_file_is_named(place, monkeypatch):
    images, labels = (place / "mnist" / f"train-{kind}-ubyte.gz" for kind in ("images-idx3", "labels-idx1"))
    write_idx(labels, np.arange(10))
    write_idx(images, np.random.default_rng(0).integers(0, 256, (10, 28, 28)))
    content = bytearray(images.read_bytes())
    content[len(content) // 2 :] = bytes(len(content) // 2)
    images.write_bytes(content)
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte\.gz: not a readable IDX file"):
        load("mnist", "train")
    write_idx(images, np.zeros((2000, 28, 28)))  # 1.5 MB of zeros in 2 kB
    monkeypatch.setattr(compressed, "FREE", 1000)
    with pytest.raises(DataError, match=r"(values cannot be in|it unpacks to more than 100 times its size)"):
        load("mnist", "train")


@pytest.mark.skipif(not fashion_mnist.DEBIAN.is_dir(), reason="needs the Debian package dataset-fashion-mnist")
def test_fashion_mnist_of_the_debian_package():
    test = load("fashion-mnist", "test")
    assert test.pixels.shape == (10_000, 1, 28, 28)
    assert torch.bincount(test.labels).tolist() == [1000] * 10
