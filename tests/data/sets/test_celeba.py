"""CelebA from files of its official layout."""

from __future__ import annotations

import datasets
import numpy as np
import pytest
from image_files import hub_rows
from PIL import Image

from feature_alignment.data import DataError, cache_directory, load


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
    for cached in cache_directory().glob("celeba*"):
        cached.rename(cached.with_name("old" + cached.name))
    (folder / "img_align_celeba" / "000004.jpg").unlink()
    with pytest.raises(DataError, match=r"000004\.jpg: no such file"):
        load("celeba", "train")
    for content, line in (("000001.jpg 0\n000002.jpg 3\n", 2), ("a b c\n", 1), ("image_id,partition\n", 1)):
        partition.write_text(content)
        with pytest.raises(DataError, match=rf"list_eval_partition\.txt, line {line}: expected a file's name and 0, 1"):
            load("celeba", "train")


def test_celeba_of_the_hub_has_no_classes(place, monkeypatch):
    rows = hub_rows([(9, 9, 9)] * 3, size=(178, 218), mode="RGB").add_column("Smiling", [True, False, True])
    rows = rows.add_column("celeb_id", [1, 2, 3])
    monkeypatch.setattr(datasets, "load_dataset", lambda name: {"train": rows, "valid": rows, "test": rows})
    train = load("celeba", "train")
    assert train.pixels.shape == (3, 3, 64, 64)
    assert train.labels is None
