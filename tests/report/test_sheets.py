"""Grids of images: every image in its place, in its own colours."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

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
