"""Grids of images: every image in its place, in its own colours."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from feature_alignment.report import sheets
from feature_alignment.report.sheets import grid, pairs


def centre_of(picture, colour):
    """Return row, column and number of the pixels of exactly this colour."""
    down, across = np.nonzero((picture == colour).all(-1))
    return np.median(down), np.median(across), len(down)  # blended edges may have the colour, too


def decoded(content):
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


@pytest.mark.parametrize("channels", [1, 3])
def test_every_image_is_in_its_row_and_column(channels):
    values = torch.tensor([[25, 50, 75], [100, 150, 200]])
    images = (values / 255).view(2, 3, 1, 1, 1).expand(-1, -1, channels, 12, 12)
    picture = decoded(grid(images, rows=["one", "two"], columns=list("abc"), title="title"))
    found = [[centre_of(picture, value) for value in row] for row in values.tolist()]
    heights, widths = np.array(found)[..., 0], np.array(found)[..., 1]
    assert np.ptp(heights, 1).max() <= 2  # a row is level
    assert np.ptp(widths, 0).max() <= 2
    assert heights[1, 0] - heights[0, 0] == pytest.approx(widths[0, 1] - widths[0, 0], abs=2) != 0
    assert (np.diff(widths, axis=1) > 60).all()
    assert np.array(found)[..., 2].min() > 60**2


def test_pairs_put_the_versions_of_an_image_under_each_other_in_blocks():
    first = torch.tensor([25, 50, 75]).view(3, 1, 1, 1).expand(-1, -1, 12, 12)
    picture = decoded(pairs({"original": first / 255, "other": (first + 100) / 255}, columns=2))
    one, two, three = (centre_of(picture, value) for value in (25, 50, 75))
    below_one, below_three = (centre_of(picture, value) for value in (125, 175))
    assert one[0] == pytest.approx(two[0], abs=2)
    assert one[1] == pytest.approx(three[1], abs=2)
    assert one[1] == pytest.approx(below_one[1], abs=2)
    assert one[0] < below_one[0] < three[0] < below_three[0]


@pytest.mark.parametrize("words", [{}, {"rows": ["one", "a longer label"], "columns": list("abc"), "title": "title"}])
def test_no_pixel_is_resampled(words):
    """Whatever stands around it, an image of pure colours is enlarged by an integer and not blurred."""
    channels = torch.rand(2, 3, 3, 12, 12, generator=torch.Generator().manual_seed(0)) > 0.5
    channels[:, :, 0] = True  # red, yellow, magenta and white: none of the words' black
    picture = decoded(grid(channels.float(), gap=0, least=72, **words))
    expected = channels.permute(0, 3, 1, 4, 2).reshape(24, 36, 3).numpy().repeat(6, 0).repeat(6, 1) * 255
    coloured = np.argwhere((picture != picture[..., :1]).any(-1))  # neither white nor grey
    place = coloured.min(0) - np.argwhere((expected != expected[..., :1]).any(-1)).min(0)
    down, across = (slice(start, start + size) for start, size in zip(place, expected.shape[:2], strict=True))
    np.testing.assert_array_equal(picture[down, across], expected)


def test_labels_wider_than_a_column_are_slanted_and_whole(monkeypatch):
    figures = []
    monkeypatch.setattr(sheets, "finish", lambda figure, path: figures.append(figure) or b"")
    for names in (["flags", "food"], ["flags", "smileys-and-emotion"]):
        sheets.grid(torch.zeros(1, 2, 1, 8, 8), columns=names)
    short, long = (list(figure.axes[0].get_xticklabels()) for figure in figures)
    assert [label.get_rotation() for label in (*short, *long)] == [0, 0, 30, 30]
    edge = figures[1].bbox.width
    assert all(0 <= label.get_window_extent().x0 < label.get_window_extent().x1 <= edge for label in long)
