"""Which images are held out."""

from __future__ import annotations

import pytest

from feature_alignment.data import DataError
from feature_alignment.data.splits import held_out, splits_among


def test_every_tenth_is_held_out_and_at_least_one():
    assert [place for place, mark in enumerate(held_out(31)) if mark] == [9, 19, 29]
    for count in range(1, 10):
        assert held_out(count).tolist() == [False] * (count - 1) + [True]
    assert held_out(0).tolist() == []


@pytest.mark.parametrize(
    ("names", "train", "test"),
    [
        (["train", "test", "validation"], "train", ["test", "validation"]),
        (["valid", "Train", "VALIDATION"], "Train", ["VALIDATION", "valid"]),
        (["train", "val"], "train", ["val"]),
        (["Training", "Testing"], "Training", ["Testing"]),
        (["train", "other"], "train", []),
        (["test"], None, ["test"]),
        ([], None, []),
    ],
)
def test_the_splits_are_found_by_name_in_any_case(names, train, test):
    assert splits_among(names) == (train, test)


def test_two_names_for_one_split_are_refused():
    with pytest.raises(DataError, match="train and Train could both be the split train"):
        splits_among(["train", "Train", "val"])
