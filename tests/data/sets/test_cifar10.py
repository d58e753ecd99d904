"""CIFAR-10 from files of its official layouts."""

from __future__ import annotations

import os
import pickle
import struct

import pytest

from feature_alignment.data import DataError, load


def cifar_image(number):
    """3 x 32 x 32 bytes with what tells colours, rows and columns apart at four places."""
    image = bytearray(3072)
    image[0] = number  # red, first row, first column
    image[1] = 11  # red, first row, second column
    image[32] = 22  # red, second row, first column
    image[1024] = 33  # green
    image[2048] = 44  # blue
    return bytes(image)


def python2_batch(images, labels):
    """The pickle of a batch as Python 2 wrote it, byte by byte: short strings, NumPy's old module names."""
    pixels = b"".join(images)
    numbers = b"".join(b"K" + bytes([label]) for label in labels)
    return (
        b"\x80\x02}(U\x04datacnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01K" + bytes([len(images)]) + b"M\x00\x0c\x86cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R"
        b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
        b"T" + struct.pack("<i", len(pixels)) + pixels + b"tbU\x06labels](" + numbers + b"eu."
    )


def write_cifar(place, version):
    folder = place / f"cifar-10-batches-{version}"
    folder.mkdir()
    for batch, name in enumerate([f"data_batch_{number}" for number in range(1, 6)] + ["test_batch"]):
        images, labels = [cifar_image(10 * batch + row) for row in range(2)], [batch, 9]
        if version == "py":
            (folder / name).write_bytes(python2_batch(images, labels))
        else:
            records = [bytes([label]) + image for label, image in zip(labels, images, strict=True)]
            (folder / f"{name}.bin").write_bytes(b"".join(records))
    return folder


@pytest.mark.parametrize("version", ["bin", "py"])
def test_cifar10_from_both_official_versions(place, version):
    write_cifar(place, version)
    train, test = load("cifar10", "train"), load("cifar10", "test")
    assert train.pixels.shape == (10, 3, 32, 32)
    assert train.pixels[:, 0, 0, 0].tolist() == [0, 1, 10, 11, 20, 21, 30, 31, 40, 41]
    assert [int(train.pixels[3][place]) for place in [(0, 0, 1), (0, 1, 0), (1, 0, 0), (2, 0, 0)]] == [11, 22, 33, 44]
    assert train.pixels[3].sum() == 11 + 11 + 22 + 33 + 44
    assert train.labels.tolist() == [0, 9, 1, 9, 2, 9, 3, 9, 4, 9]
    assert test.pixels[:, 0, 0, 0].tolist() == [50, 51]
    assert test.labels.tolist() == [5, 9]
    assert [test.classes[label] for label in (0, 1, 5, 9)] == ["airplane", "automobile", "dog", "truck"]


class Dangerous:
    def __reduce__(self):
        return os.system, ("true",)


def test_a_pickle_of_cifar10_cannot_run_anything_and_damage_is_named(place):
    folder = write_cifar(place, "py")
    (folder / "test_batch").write_bytes(pickle.dumps({b"data": Dangerous(), b"labels": []}))
    with pytest.raises(DataError, match=r"test_batch: not a batch of CIFAR-10 \(it asks for posix.system\)"):
        load("cifar10", "test")
    whole = (folder / "data_batch_3").read_bytes()
    for content in (whole[:100], b"", b"words", pickle.dumps({}), python2_batch([bytes(10)], [1])):
        (folder / "data_batch_3").write_bytes(content)
        with pytest.raises(DataError, match=r"data_batch_3: not a batch of CIFAR-10 \(.+\)$"):
            load("cifar10", "train")
    (write_cifar(place, "bin") / "data_batch_2.bin").write_bytes(bytes(3072))
    with pytest.raises(DataError, match=r"data_batch_2.bin: expected whole records of 3073 bytes, got 3072 bytes"):
        load("cifar10", "train")
