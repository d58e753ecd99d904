"""Folders of images: classes, splits, broken images, changes."""

from __future__ import annotations

import pytest
from image_files import write_image

from feature_alignment.data import DataError, load


def test_folder_with_a_class_per_subfolder(tmp_path):
    for number in range(10):
        write_image(tmp_path / "red" / f"{number}.png", (255, 0, 0))
        write_image(tmp_path / "blue" / f"{number}.jpg", (0, 0, 255))
    train, test = load(str(tmp_path), "train", image_size=8), load(str(tmp_path), "test", image_size=8)
    assert train.classes == ("blue", "red")
    assert (len(train), len(test)) == (18, 2)
    assert test.labels.tolist() == [0, 1]
    assert train.pixels[train.labels == 1].float().mean((0, 2, 3)).tolist() == [255.0, 0.0, 0.0]
    grey = load(str(tmp_path), "test", image_size=8, channels=1)
    assert grey.shape == (1, 8, 8)


def test_folder_without_classes_and_with_given_splits(tmp_path):
    for number in range(3):
        write_image(tmp_path / "plain" / f"{number}.png", number)
        write_image(tmp_path / "split" / "train" / f"{number}.png", number)
    write_image(tmp_path / "split" / "test" / "a.png", 7)
    assert load(str(tmp_path / "plain"), "train").labels is None
    assert [len(load(str(tmp_path / "plain"), split)) for split in ("train", "test")] == [2, 1]
    assert [len(load(str(tmp_path / "split"), split)) for split in ("train", "test")] == [3, 1]


@pytest.mark.parametrize(("train", "held_out"), [("train", "val"), ("Train", "Test"), ("training", "valid")])
def test_split_folders_of_any_name_are_splits_and_not_classes(tmp_path, train, held_out):
    for number in range(4):
        write_image(tmp_path / train / "cat" / f"{number}.png", (10, 0, 0))
        write_image(tmp_path / train / "dog" / f"{number}.png", (20, 0, 0))
        write_image(tmp_path / held_out / "dog" / f"{number}.png", (30, 0, 0))
    found = load(str(tmp_path), "train", image_size=8)
    assert found.classes == ("cat", "dog")
    assert found.labels.tolist() == [0] * 4 + [1] * 4
    assert found.pixels[:, 0, 0, 0].tolist() == [10] * 4 + [20] * 4  # no held-out image among them
    other = load(str(tmp_path), "test", image_size=8)
    assert (other.classes, other.labels.tolist()) == (found.classes, [1] * 4)
    assert other.pixels[:, 0, 0, 0].unique().tolist() == [30]


def test_images_beside_class_folders_are_refused(tmp_path):
    write_image(tmp_path / "a" / "1.png", 0)
    write_image(tmp_path / "loose.png", 0)
    with pytest.raises(DataError, match="1 images lie beside the class folders a"):
        load(str(tmp_path), "train")
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match="no images for the train split"):
        load(str(tmp_path / "none"), "train")


def test_broken_images_are_named_counted_and_skipped_or_stop_the_run(tmp_path):
    for number in range(4):
        write_image(tmp_path / f"{number}.png", (number, 0, 0))
    (tmp_path / "1.png").write_bytes(b"this is no image")
    whole = (tmp_path / "2.png").read_bytes()
    (tmp_path / "2.png").write_bytes(whole[:-30])
    for _ in range(2):  # the second time too, from the cache
        with pytest.warns(UserWarning, match="skipped") as caught:
            train = load(str(tmp_path), "train", image_size=20)
        (said,) = [str(each.message) for each in caught if each.category is UserWarning]
        assert "2 skipped: not a readable image: 2" in said
        assert "1.png: format not recognised" in said
        assert "2.png: " in said
        assert train.pixels[:, 0, 0, 0].tolist() == [0]
    with pytest.raises(DataError, match=r"1\.png: "):
        load(str(tmp_path), "train", strict=True)


def test_a_changed_folder_is_decoded_again(tmp_path):
    for number in range(3):
        write_image(tmp_path / f"{number}.png", (10, 10, 10))
    assert load(str(tmp_path), "train").pixels.unique().tolist() == [10]
    for number in range(3):
        write_image(tmp_path / f"{number}.png", (77, 77, 77), size=(21, 21))
    assert load(str(tmp_path), "train").pixels.unique().tolist() == [77]


@pytest.mark.parametrize("name", ["set\udcfe", "猫" * 80, "a" * 250])
def test_a_folder_may_have_any_name(name, tmp_path):
    for number in range(3):
        write_image(tmp_path / name / f"{number}.png", (10, 10, 10))
    for _ in range(2):
        assert len(load(str(tmp_path / name), "train", image_size=8)) == 2
