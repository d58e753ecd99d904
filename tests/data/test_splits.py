"""Which images are held out."""

from __future__ import annotations

import pytest

from feature_alignment.data.splits import held_out, held_out_name


def test_every_tenth_is_held_out_and_at_least_one():
    assert [place for place, mark in enumerate(held_out(31)) if mark] == [9, 19, 29]
    for count in range(1, 10):
        assert held_out(count).tolist() == [False] * (count - 1) + [True]
    assert held_out(0).tolist() == []


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["train", "test", "validation"], "test"),
        (["valid", "train", "validation"], "validation"),
        (["train", "val"], "val"),
        (["train", "other"], None),
        (["test"], None),  # without training images it is no held-out split
        ([], None),
    ],
)
def test_the_held_out_split_is_found_beside_train(names, found):
    assert held_out_name(names) == found


def test_only_names_that_are_known_count():
    assert held_out_name(["train", "val"], known=("test",)) is None
