"""What the browser sends, against PIL used directly; what is no picture is one line."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from feature_alignment.explorer import uploads
from feature_alignment.explorer.uploads import Refused, is_file, pixels_of


def url_of(content, name=None):
    named = f";name={name}" if name else ""
    return f"data:image/png{named};base64,{base64.b64encode(content).decode()}"


def png(array, kind="PNG"):
    Image.fromarray(array).save(file := io.BytesIO(), kind)
    return file.getvalue()


def test_a_picture_of_the_networks_size_is_taken_as_it_is():
    array = np.arange(64 * 3, dtype=np.uint8).reshape(8, 8, 3)
    found = pixels_of(url_of(png(array)), (3, 8, 8))
    assert found.shape == (1, 3, 8, 8)
    assert np.array_equal(255 * found[0].permute(1, 2, 0).numpy(), array)


def test_other_shapes_are_cropped_at_the_centre():
    array = np.zeros((8, 16), np.uint8)
    array[:, 4:12] = 255
    assert pixels_of(url_of(png(array)), (1, 8, 8)).min() == 1
    tall = pixels_of(url_of(png(np.full((20, 20), 255, np.uint8))), (3, 6, 10))
    assert tall.shape == (1, 3, 6, 10)


def test_transparency_is_white_and_16_bits_are_scaled():
    clear = np.zeros((8, 8, 4), np.uint8)
    assert pixels_of(url_of(png(clear)), (1, 8, 8)).min() == 1
    deep = np.full((8, 8), 65535, np.uint16)
    assert pixels_of(url_of(png(deep)), (1, 8, 8)).min() == 1


def test_the_white_of_the_training_images_is_used_where_it_is_known():
    deep = url_of(png(np.full((8, 8), 200, np.uint16)))
    assert 255 * pixels_of(deep, (1, 8, 8), {"integers": 4095.0}).max() == 12
    assert 255 * pixels_of(deep, (1, 8, 8), {}).max() == 200  # a picture alone: a guess, 255


@pytest.mark.parametrize(
    ("url", "line"),
    [
        (url_of(b"hello", "my%20notes.txt"), "my notes.txt: not a readable image (format not recognised)"),
        (url_of(b"", "empty.png"), "empty.png: not a readable image (empty)"),
        (url_of(png(np.zeros((8, 8), np.uint8))[:-30], "cut.png"), "cut.png: not a readable image"),
        ("data:image/png;base64,@@@", "the drawing: not a readable image (damaged on its way)"),
        ("/etc/passwd", "no picture: expected a data URL"),
        (None, "no picture: expected a data URL"),
        (url_of(b"x", "two%0Alines"), "two lines: not a readable image"),
    ],
)
def test_what_is_no_picture_is_refused_in_one_line(url, line):
    with pytest.raises(Refused) as refused:
        pixels_of(url, (1, 8, 8))
    assert str(refused.value).startswith(line)
    assert "\n" not in str(refused.value)


def test_large_files_are_refused_before_they_are_decoded(monkeypatch):
    monkeypatch.setattr(uploads, "MOST_BYTES", 3_000_000)
    with pytest.raises(Refused, match=r"^big\.png: larger than 3 MB$"):
        pixels_of(url_of(bytes(3_000_100), "big.png"), (1, 8, 8))


def test_files_are_told_from_drawings():
    assert is_file(url_of(b"x", "x.png"))
    assert not is_file(url_of(b"x"))
