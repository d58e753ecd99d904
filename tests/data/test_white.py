"""Images of more than 8 bits: one scale for a data set, and a warning where it is a guess."""

from __future__ import annotations

import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image
from torch import nn

from feature_alignment.data import DataError, ImageReader, load, read_image, white
from feature_alignment.data.white import white_of_integers
from feature_alignment.networks import LoadedNetwork, load_images, read_images


def write(folder, arrays, ending="png"):
    folder.mkdir(exist_ok=True)
    for number, array in enumerate(arrays):
        Image.fromarray(np.broadcast_to(array, (4, 4)).copy()).save(folder / f"{number:02}.{ending}")


def values(folder, split="train", **settings):
    return load(str(folder), split, image_size=4, channels=1, **settings).pixels[:, 0, 0, 0].tolist()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("FALIGN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "set"


@pytest.fixture
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        yield


def test_images_of_16_bits_have_one_scale_whatever_their_own_maximum(folder, quiet):
    write(folder, [np.uint16(each) for each in (255, 256, 65535, 32768)])
    assert values(folder) == [1, 1, 255]  # 255 / 257 and 256 / 257, rounded
    assert values(folder, "test") == [128]


def test_floats_in_0_to_1_keep_their_grey_levels(folder, quiet):
    write(folder, [np.float32(each / 255) for each in (0, 1, 100, 200, 254)], "tif")
    assert values(folder) + values(folder, "test") == [0, 1, 100, 200, 254]


def test_12_bits_in_16_are_a_guess_from_both_splits_and_said(folder):
    write(folder, [np.uint16(each) for each in (100, 200, 4095)])  # the largest is held out
    with pytest.warns(
        UserWarning, match=r"16 bits, 4095 is taken for white, a guess: the largest value of all is 4095"
    ):
        assert values(folder) == [6, 12]
    with pytest.warns(UserWarning, match="4095 is taken for white"):
        assert values(folder, "test") == [255]


def test_the_value_of_white_can_be_given(folder, quiet):
    write(folder, [np.uint16(each) for each in (100, 200, 400)])
    assert values(folder, white=400) == [64, 128]
    for level in (0, -1, float("inf"), float("nan")):
        with pytest.raises(DataError, match="white: expected a number above 0"):
            values(folder, white=level)


@pytest.mark.parametrize(
    ("largest", "expected_white"), [(1.05, 1), (200, 255), (3000, 4095), (60000, 65535), (100000, 100000)]
)
def test_floats_above_1_are_a_guess(folder, largest, expected_white):
    write(folder, [np.float32(largest / 2), np.float32(largest), np.float32(0)], "tif")
    expected = [round(255 * min(1, each / expected_white)) for each in (largest / 2, largest)]
    with pytest.warns(UserWarning, match=rf"floating point, {expected_white:g} is taken for white, a guess"):
        assert values(folder) == pytest.approx(expected, abs=1)


def test_values_below_zero_are_said_and_values_that_are_not_finite_skipped(folder):
    write(folder, [np.float32(-1), np.float32(1), np.float32(np.nan), np.float32(0.5)], "tif")
    with pytest.warns(UserWarning, match="skipped") as caught:
        assert values(folder) == [0, 255]
    said = " ".join(str(each.message) for each in caught)
    assert "values below 0, down to -1, become black" in said
    assert "values that are not finite" in said


def test_images_of_8_bits_beside_deep_ones_keep_theirs(folder, quiet):
    write(folder, [np.uint16(65535), np.uint8(77), np.uint8(0)])
    assert values(folder) == [255, 77]


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_large_images_are_read_some_rows_at_a_time_to_the_same_effect(folder, dtype, monkeypatch):
    values = np.arange(35 * 9, dtype=dtype).reshape(35, 9)
    folder.mkdir()
    for at, value in ((3, np.nan), (200, np.inf)):
        values.flat[at] = value if dtype is np.float32 else 0
    Image.fromarray(values).save(folder / "00.tif")
    for band in (1, 20, 10**6):
        monkeypatch.setattr(white, "BAND", band)
        bands = list(white._bands(Image.open(folder / "00.tif")))
        found = np.concatenate([each.ravel() for each in bands])
        assert sorted(found) == sorted(values[np.isfinite(values)])
    assert max(map(len, bands)) <= 35 * 9


def test_the_values_of_white_are_known_of_the_images_and_can_be_given(folder, quiet):
    write(folder, [np.uint16(each) for each in (65535, 100, 60000)])
    found = load(str(folder), "train", image_size=4, channels=1)
    assert found.white == {"integers": 65535}
    assert load(str(folder), "train", image_size=4, channels=1).white == found.white  # from the cache
    other = folder.with_name("other")
    write(other, [np.uint16(255), np.uint16(200)])  # alone, 255 would be taken for white
    assert read_image(other / "00.png", 4, 1, white=found.white).unique().tolist() == [1]
    assert load(str(other), "train", image_size=4, channels=1, white=found.white).pixels.unique().tolist() == [1]
    assert load(str(folder), "train", image_size=4, channels=1, white=60000).white == {"integers": 60000}


def test_what_is_not_among_the_given_values_is_found(folder):
    write(folder, [np.float32(200), np.float32(100)], "tif")
    with pytest.warns(UserWarning, match="255 is taken for white, a guess"):
        found = load(str(folder), "train", image_size=4, channels=1, white={"integers": 4095})
    assert found.white == {"floating point": 255}


def test_one_image_read_alone_is_a_set_of_one(folder):
    write(folder, [np.uint16(255)])
    with pytest.warns(UserWarning, match="a guess"):
        assert read_image(folder / "00.png", 4, 1).unique().tolist() == [255]
    assert read_image(folder / "00.png", 4, 1, white=65535).unique().tolist() == [1]


def test_images_that_are_compared_have_one_white(folder):
    write(folder, [np.uint16(4000), np.uint16(1000)])  # of 12 bits; alone, the second would be of 10
    files = [folder / f"{number:02}.png" for number in (1, 0)]
    with pytest.warns(UserWarning, match="4095 is taken for white, a guess") as warned:
        found = [*map(ImageReader(files, 4, 1), files)]
    assert [each.unique().tolist() for each in found] == [[round(1000 * 255 / 4095)], [round(4000 * 255 / 4095)]]
    assert len(warned) == 1
    loaded = LoadedNetwork("mine", nn.Identity(), (1, 4, 4))
    with pytest.warns(UserWarning, match="4095"):
        assert load_images([folder], loaded)[1].unique().tolist() == [pytest.approx(62 / 255)]
    with pytest.warns(UserWarning, match="4095"):
        ((path, pixels),) = read_images(files[:1], loaded, files)
    assert (path, float(pixels.max())) == (files[0], pytest.approx(62 / 255))


def png_of_16_bits(layout, channels, value):
    """A PNG that Pillow cannot write: 16 bits in colour, or beside transparency."""

    def part(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    rows = (b"\0" + struct.pack(f">{4 * channels}H", *[value] * 4 * channels)) * 4
    head = struct.pack(">IIBBBBB", 4, 4, 16, layout, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + part(b"IHDR", head) + part(b"IDAT", zlib.compress(rows)) + part(b"IEND", b"")


@pytest.mark.parametrize(("layout", "channels"), [(2, 3), (4, 2), (6, 4)])
def test_colours_of_16_bits_are_said_to_lose_their_lower_ones(folder, layout, channels):
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.png").write_bytes(png_of_16_bits(layout, channels, 40000))
    with pytest.warns(UserWarning, match="of images of 16 bits in colour, or beside transparency, 65535 is white"):
        load(str(folder), "train", image_size=4, channels=3, white=4095)


def test_colours_of_8_bits_are_not(folder, quiet):
    folder.mkdir()
    for number in range(3):
        Image.new("RGB", (4, 4)).save(folder / f"{number}.png")
        Image.new("RGBA", (4, 4), (1, 2, 3, 4)).save(folder / f"{number}.tif", compression="tiff_deflate")
        for ending in ("ppm", "bmp", "tga", "tif", "webp", "jpg"):  # wide enough that a row has more than 255 bytes
            Image.new("RGB", (200, 200)).save(folder / f"{number}-wide.{ending}")
    load(str(folder), "train", image_size=4, channels=3)


def test_further_pages_are_counted_and_refused_if_nothing_may_be_skipped(folder):
    folder.mkdir()
    pages = [Image.new("L", (4, 4), 10 * number) for number in range(5)]
    for number in range(3):
        pages[0].save(folder / f"{number}.tif", save_all=True, append_images=pages[1:])
    pages[0].save(folder / "9.gif", save_all=True, append_images=pages[1:3])
    with pytest.warns(UserWarning, match="pages or frames of a file after its first: 12"):
        load(str(folder), "train", image_size=4, channels=1)
    with pytest.warns(UserWarning, match=r"pages or frames of a file after its first: 2 \([^ ]*9\.gif, "):
        load(str(folder), "test", image_size=4, channels=1)
    with pytest.raises(DataError, match="nothing may be"):
        load(str(folder), "train", image_size=4, channels=1, strict=True)


def tiff_of_int16(value):
    """A TIFF that Pillow cannot write: 4 x 4 signed integers of 16 bits."""
    tags = {256: 4, 257: 4, 258: 16, 259: 1, 262: 1, 273: 8, 277: 1, 278: 4, 279: 32, 339: 2}
    entries = b"".join(struct.pack("<HHII", tag, 3, 1, each) for tag, each in tags.items())
    return (
        b"II*\0"
        + struct.pack("<I", 40)
        + struct.pack("<16h", *[value] * 16)
        + struct.pack("<H", 10)
        + entries
        + bytes(4)
    )


def test_signed_images_of_16_bits_are_read_by_their_15(folder, quiet):
    folder.mkdir()
    for number, value in enumerate((0, 32767, 30000)):
        (folder / f"{number}.tif").write_bytes(tiff_of_int16(value))
    assert values(folder) + values(folder, "test") == [0, 255, 233]
    assert white_of_integers(30000, 15) == (32767, False)
    assert white_of_integers(4000, 15) == (4095, True)
    assert white_of_integers(2.0**30, 31) == (2**31 - 1, True)


def test_colours_of_16_bits_in_all_are_not_deep(folder, quiet):
    folder.mkdir()
    head = struct.pack("<2sIHHI", b"BM", 66 + 32, 0, 0, 66)
    info = struct.pack("<IiiHHIIiiII", 40, 4, 4, 1, 16, 3, 32, 0, 0, 0, 0) + struct.pack("<III", 0xF800, 0x7E0, 0x1F)
    for number in range(3):
        (folder / f"{number}.bmp").write_bytes(head + info + struct.pack("<16H", *[0xF800] * 16))
    assert load(str(folder), "train", image_size=4, channels=3).pixels[0, :, 0, 0].tolist() == [255, 0, 0]
