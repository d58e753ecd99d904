"""Splits and classes by path: the same names as on the Hub, nothing taken for a class that is a split."""

from __future__ import annotations

import unicodedata

import pytest

from feature_alignment.data import DataError
from feature_alignment.data.findings import Findings
from feature_alignment.data.layout import Entry, arrange


def arranged(paths, split="train", labels=None):
    """Paths, labels, classes and findings of a split; ``paths`` is text with blanks between."""
    findings = Findings()
    paths = paths.split() if isinstance(paths, str) else paths
    entries = [Entry(path, label) for path, label in zip(paths, labels or [None] * len(paths), strict=True)]
    found = arrange("set", sorted(entries), split, findings)
    return " ".join(entry.path for entry in found.entries), found.labels, found.classes, findings


@pytest.mark.parametrize("train", ["train", "Train", "TRAINING"])
@pytest.mark.parametrize("test", ["test", "Test", "val", "Valid", "VALIDATION", "testing"])
def test_split_folders_are_splits_in_any_case(train, test):
    paths = f"{train}/cat/1.png {train}/cat/2.png {train}/dog/3.png {test}/dog/4.png"
    assert arranged(paths)[:3] == (f"{train}/cat/1.png {train}/cat/2.png {train}/dog/3.png", [0, 0, 1], ["cat", "dog"])
    assert arranged(paths, "test")[:3] == (f"{test}/dog/4.png", [1], ["cat", "dog"])


def test_the_split_that_is_not_used_is_said():
    paths = "train/a/1.png train/b/2.png test/a/3.png val/a/4.png val/b/5.png"
    assert arranged(paths, "test")[0] == "test/a/3.png"
    assert arranged(paths)[3].notes == ["the 2 images of the split val are not used; held out is test"]


def test_a_test_split_without_classes_gives_way_to_one_that_has_them():
    flat = "train/a/1.png train/b/2.png test/3.png"
    assert arranged(f"{flat} val/a/4.png", "test")[:3] == ("val/a/4.png", [0], ["a", "b"])
    assert arranged(flat, "test")[:3] == ("test/3.png", [-1], [])
    assert "the split test has no classes, so it is used without labels" in arranged(flat, "test")[3].notes


def test_a_split_without_its_partner_is_refused_or_said():
    with pytest.raises(DataError, match="set: the folder train has folders of its own, but none beside it is called"):
        arranged("train/a/1.png train/b/2.png unseen/a/3.png")
    with pytest.raises(DataError, match="the splits test, val, but no folder train"):
        arranged("test/a/1.png val/a/2.png")
    _, _, classes, findings = arranged("bus/1.png bus/2.png train/3.png train/4.png")  # vehicles
    assert classes == ["bus", "train"]
    assert findings.notes == ["the folder train is taken for a class, since the other split is missing"]


def test_a_folder_that_contains_everything_is_looked_into():
    for above in ("", "flowers/", "flowers/flowers/", "train/"):
        paths = f"{above}rose/1.png {above}rose/2.png {above}tulip/3.png {above}tulip/4.png"
        assert arranged(paths)[1:3] == ([0, 1], ["rose", "tulip"])


def test_images_outside_the_splits_are_counted():
    paths = "train/a/1.png train/b/2.png test/a/3.png extra/4.png extra/5.png loose.png"
    assert arranged(paths)[3].skipped == {"outside the splits": [3, ["extra/", "loose.png"]]}


def test_one_folder_is_no_class():
    _, labels, classes, findings = arranged(
        "img_align_celeba/img_align_celeba/1.jpg img_align_celeba/img_align_celeba/2.jpg"
    )
    assert (labels, classes) == ([-1], [])
    assert findings.notes == [
        "all images are in the one folder img_align_celeba, and one class is none: no labels are used"
    ]


def test_names_are_compared_in_composed_unicode():
    name = "caf\N{LATIN SMALL LETTER E WITH ACUTE}"
    apart = unicodedata.normalize("NFD", name)
    paths = [f"train/{apart}/1.png", "train/tea/2.png", f"val/{name}/3.png"]
    assert arranged(paths)[2] == [name, "tea"]
    assert arranged(paths, "test")[:2] == (paths[2], [0])


def test_the_only_image_of_a_class_is_trained_on():
    assert arranged("a/1.png b/2.png b/3.png")[1] == [0, 1]
    assert arranged("a/1.png b/2.png b/3.png", "test")[:2] == ("b/3.png", [1])


def test_labels_beside_images_are_classes_sorted_by_size():
    found = arranged("0.png 1.png 2.png 3.png", labels=[10, 9, 9, 10])
    assert found[1:3] == ([0, 1], ["9", "10"])
    found = arranged("0.png 1.png", labels=["a", None])
    assert found[1:3] == ([-1], [])
    assert found[3].notes == ["1 of 2 labels of set are missing, so none is used"]
