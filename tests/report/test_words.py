"""Words in pictures are drawn as they are written."""

from __future__ import annotations

import io
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from feature_alignment.report import charts, words
from feature_alignment.report.sheets import grid

NAMES = ["5$ to 7$", "$", r"\frac$x$", "a\udcff", "猫", "кот", "Übung", "\t", "😀", "_^{", "$_^{$"]


@pytest.mark.parametrize("name", NAMES)
def test_a_class_of_any_name_is_drawn_without_a_word(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        picture = grid(torch.zeros(1, 2, 1, 8, 8), columns=[name, "b"], rows=[name], title=name)
        charts.scatter(torch.rand(2, 2), torch.tensor([0, 1]), [name, "b"], title=name)
        charts.bars({name: (1.0, None), "b": (2.0, 0.1)}, title=name)
        charts.curves({name: ([0, 1], [1.0, 2.0])}, title=name)
    assert Image.open(io.BytesIO(picture)).size[0] > 100


def pixels(name):
    return np.asarray(Image.open(io.BytesIO(grid(torch.zeros(1, 1, 1, 8, 8), columns=[name]))))


def test_a_dollar_is_a_dollar():
    """Between two of them there is no formula: letters would be italic and spaces lost."""
    assert not np.array_equal(pixels("$a b$"), pixels("a b"))
    assert words.drawable("$a b$") == r"\$a b\$"


def test_a_letter_that_no_font_has_is_its_escape(monkeypatch):
    monkeypatch.setattr(words, "_font", lambda letter: None if letter == "猫" else "DejaVu Sans")
    assert words.drawable("a猫") == r"a\u732b"
    assert words.drawable("a\udcff\x07") == r"a\udcff\x07"


def test_a_letter_that_another_font_has_is_drawn_with_it(monkeypatch):
    monkeypatch.setattr(words, "_font", lambda letter: "Other" if letter == "猫" else "DejaVu Sans")
    assert words.drawn(["a猫", "b"]) == (["a猫", "b"], ["DejaVu Sans", "Other"])
