"""STL-10 from files of its official layout."""

from __future__ import annotations

import pytest

from feature_alignment.data import DataError, cache_directory, load


def test_stl10_has_its_columns_one_after_another_and_counts_classes_from_one(place):
    folder = place / "stl10_binary"
    folder.mkdir()
    first, second = bytearray(3 * 96 * 96), bytes([7]) * (3 * 96 * 96)
    first[5] = 1  # red, sixth row of the first column
    first[96] = 2  # red, first row of the second column
    first[96 * 96 + 3 * 96 + 1] = 3  # green, second row of the fourth column
    for split, labels in (("train", [1, 10]), ("test", [3, 8])):
        (folder / f"{split}_X.bin").write_bytes(bytes(first) + second)
        (folder / f"{split}_y.bin").write_bytes(bytes(labels))
    train, test = load("stl10", "train"), load("stl10", "test")
    assert train.pixels.shape == (2, 3, 96, 96)
    assert train.pixels[0].nonzero().tolist() == [[0, 0, 1], [0, 5, 0], [1, 1, 3]]
    assert train.pixels[0][train.pixels[0] > 0].tolist() == [2, 1, 3]
    assert train.pixels[1].unique().tolist() == [7]
    assert [train.classes[label] for label in train.labels] == ["airplane", "truck"]
    assert [test.classes[label] for label in test.labels] == ["car", "monkey"]
    (folder / "train_X.bin").write_bytes(second[1:])
    (folder / "test_y.bin").write_bytes(bytes([0, 1]))
    for cached in cache_directory().glob("stl10*"):
        cached.rename(cached.with_name("old" + cached.name))
    with pytest.raises(DataError, match=r"train_X.bin: expected whole images of 3 x 96 x 96 bytes, got 27647 bytes"):
        load("stl10", "train")
    with pytest.raises(DataError, match="labels from -1 to 0, expected 0 to 9"):
        load("stl10", "test")
