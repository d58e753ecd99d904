"""What all named sets share: where they are looked for, what is said where they are missing."""

from __future__ import annotations

import datasets
import numpy as np
import pytest
import torch
from image_files import hub_rows, write_idx

from feature_alignment.data import DataError, cache_directory, load


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
    write_idx(cache_directory() / "data" / "mnist" / "t10k-images-idx3-ubyte", np.full((2, 28, 28), 9))
    write_idx(cache_directory() / "data" / "mnist" / "t10k-labels-idx1-ubyte", np.array([4, 5]))
    assert load("mnist", "test").labels.tolist() == [4, 5]


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


def test_named_sets_can_be_resized_and_coloured():
    images = load("mnist-mini", "test", image_size=32, channels=3)
    assert images.shape == (3, 32, 32)
    assert torch.equal(images.pixels[:, 0], images.pixels[:, 2])
