"""Single images: size, colours, depth, transparency, orientation."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageOps

from feature_alignment.data import decoding, read_image


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


def test_few_large_images_wait_to_be_decoded(monkeypatch):
    """However many cores there are, their bytes are not all in memory at once."""
    waiting, most = 0, 0

    def pictures():
        nonlocal waiting, most
        for number in range(20):
            waiting += 1
            most = max(most, waiting)
            yield str(number), bytes(100)

    monkeypatch.setattr(decoding, "workers", lambda: 4)
    for limit, expected in ((10**6, 16), (250, 3)):
        monkeypatch.setattr(decoding, "WAITING", limit)
        waiting = most = 0
        for _ in decoding._in_order(pictures(), lambda name, content: np.zeros(1, np.uint8)):
            waiting -= 1
        assert most == expected


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_what_pillow_makes_of_it(orientation, tmp_path):
    pixels = np.zeros((20, 20, 3), np.uint8)
    pixels[:10, :10], pixels[:10, 10:], pixels[10:, :10] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    with Image.open(tmp_path / "a.png") as picture:
        expected = np.asarray(ImageOps.exif_transpose(picture)).transpose(2, 0, 1)
    assert (read_image(tmp_path / "a.png", 20, 3) == expected).all()


def test_a_deep_tiff_whose_zero_is_white_is_no_negative(tmp_path):
    values = np.repeat(np.array([[0, 65535]], np.uint16), 2, 0)
    Image.fromarray(values).save(tmp_path / "a.tif", tiffinfo={262: 0})
    assert read_image(tmp_path / "a.tif", 2, 1)[0].tolist() == [[255, 0], [255, 0]]
