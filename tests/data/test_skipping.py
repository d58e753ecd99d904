"""Whatever is no image is counted by reason, in one line; one damaged file never ends a run."""

from __future__ import annotations

import struct
import tarfile
import warnings
from pathlib import Path

import pytest
from image_files import write_image
from PIL import Image, ImageOps

from feature_alignment.data import (
    DataError,
    DataOptions,
    TrainingData,
    archives,
    cache_directory,
    folders,
    load,
    read_image,
)
from feature_alignment.data import formats as formats_module
from feature_alignment.files import user_path
from feature_alignment.models import VFA


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("FALIGN_CACHE", str(tmp_path / "cache"))
    for name in ("a", "b"):
        for number in range(3):
            write_image(tmp_path / "set" / name / f"{number}.png", (number, 0, 0))
    return tmp_path / "set"


def said(folder, **settings):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = load(str(folder), "train", image_size=4, **settings)
    return found, [str(each.message) for each in caught if each.category is UserWarning]


def test_everything_that_is_skipped_is_counted_by_reason_in_one_line(folder):
    (folder / "README.pdf").write_bytes(b"%PDF")
    (folder / "a" / "photo.nef").write_bytes(b"raw")
    (folder / "a" / "notes").write_text("a file without extension that is no image")
    (folder / "a" / ".DS_Store").touch()
    (folder / "a" / "gone.png").symlink_to(folder / "nowhere.png")
    (folder / "a" / "round").symlink_to(folder)
    (folder / "empty").mkdir()
    (folder / "__MACOSX").mkdir()
    write_image(folder / "__MACOSX" / "a" / "1.png", 0)
    (folder / "b" / "00torn.png").write_bytes(b"torn")
    found, lines = said(folder)
    assert found.classes == ("a", "b")
    assert len(lines) == 1
    for reason in (
        "9 skipped", "no image format: .pdf: 1 (README.pdf)", "raw photographs have to be converted",
        "no image, and no extension: 1 (a/notes)", "hidden or a system's own: 2", "links to nothing: 1 (a/gone.png)",
        "links to a folder that contains them: 1 (a/round)", "empty folders: 1 (empty/)", "not a readable image: 1",
    ):  # fmt: skip
        assert reason in lines[0]
    assert said(folder)[1] == lines  # from the cache


def test_where_splits_are_given_nothing_that_has_no_image_is_a_class(folder):
    write_image(folder / "train" / "b" / "1.png", 0)
    (folder / "a").rename(folder / "train" / "a")
    (folder / "b").rename(folder / "val")
    for number in range(3):
        (folder / "val" / "b").mkdir(exist_ok=True)
        (folder / "val" / f"{number}.png").rename(folder / "val" / "b" / f"{number}.png")
    (folder / "train" / "nothing").mkdir()
    (folder / "train" / "README.pdf").write_bytes(b"%PDF")
    write_image(folder / "train" / "__MACOSX" / "a" / "._1.png", 0)
    write_image(folder / "__MACOSX" / "train" / "c" / "1.png", 0)
    (folder / "val" / "photographs").mkdir()
    (folder / "val" / "photographs" / "1.nef").write_bytes(b"raw")
    found, (line,) = said(folder)
    assert (found.classes, found.labels.tolist()) == (("a", "b"), [0, 0, 0, 1])
    assert load(str(folder), "test", image_size=4).labels.tolist() == [1, 1, 1]
    for reason in ("5 skipped", "empty folders: 1 (train/nothing/)", "hidden or a system's own: 2", "raw photographs",
                   "no image format: .pdf: 1 (train/README.pdf)"):  # fmt: skip
        assert reason in line


def test_links_and_files_without_extension_are_images_if_they_are(folder, tmp_path):
    write_image(tmp_path / "elsewhere" / "x.png", (9, 0, 0))
    (folder / "a" / "9").write_bytes((tmp_path / "elsewhere" / "x.png").read_bytes())
    (folder / "b" / "link.png").symlink_to(tmp_path / "elsewhere" / "x.png")
    (folder / "c").symlink_to(tmp_path / "elsewhere")
    found, lines = said(folder)
    assert lines == []
    assert found.classes == ("a", "b", "c")
    assert len(found) == 3 + 3 + 1  # one of each of the larger classes is held out


@pytest.mark.parametrize("name", ["README.pdf", ".hidden.png", "a/empty/"])
def test_strict_refuses_any_skip(folder, name):
    (folder / name).mkdir() if name.endswith("/") else (folder / name).touch()
    said(folder)
    with pytest.raises(DataError, match=r"1 skipped: .* --data.strict"):
        said(folder, strict=True)


def test_heic_is_read_with_pillow_heif_and_named_without(folder, monkeypatch):
    pillow_heif = pytest.importorskip("pillow_heif")
    pillow_heif.from_pillow(Image.new("RGB", (32, 32), (0, 200, 0))).save(folder / "a" / "00.heic")
    (folder / "b" / "00misnamed.jpg").write_bytes((folder / "a" / "00.heic").read_bytes())
    found, lines = said(folder)
    assert lines == []
    assert (found.pixels[:, 1] > 150).flatten(1).all(1).sum() >= 1


def test_heic_is_named_without_pillow_heif(folder, monkeypatch):
    (folder / "a" / "00.heic").touch()
    (folder / "b" / "00misnamed.jpg").write_bytes(b"\0\0\0\x18ftypheic" + bytes(16))
    monkeypatch.setattr(formats_module.importlib.util, "find_spec", lambda name: None)
    registered = {end: name for end, name in Image.registered_extensions().items() if name != "HEIF"}
    monkeypatch.setattr(Image, "registered_extensions", lambda: registered)
    monkeypatch.setattr(Image, "OPEN", {name: how for name, how in Image.OPEN.items() if name != "HEIF"})
    formats_module.formats.cache_clear()
    formats_module._endings.cache_clear()
    try:
        (line,) = said(folder)[1]
    finally:
        formats_module.formats.cache_clear()
        formats_module._endings.cache_clear()
    assert "HEIC photographs need pillow-heif: pip install 'feature-alignment[heic]': 2 (a/00.heic, " in line


def jpeg_with_damaged_exif(path):
    """Upside down, by its EXIF, where the resolution is a negative rational, which PIL cannot write again."""
    exif = struct.pack("<2sHI", b"II", 42, 8) + struct.pack("<H", 2)
    exif += struct.pack("<HHII", 0x0112, 3, 1, 3)  # orientation 3
    exif += struct.pack("<HHII", 0x011A, 10, 1, 38) + struct.pack("<I", 0) + struct.pack("<ii", -(2**31), 1)
    picture = Image.new("L", (8, 8))
    picture.paste(255, (0, 0, 8, 4))
    picture.save(path, exif=b"Exif\0\0" + exif, quality=100)
    with pytest.raises(struct.error):
        ImageOps.exif_transpose(Image.open(path))


def test_a_photograph_with_damaged_exif_is_turned_and_kept(tmp_path):
    jpeg_with_damaged_exif(tmp_path / "photo.jpg")
    pixels = read_image(tmp_path / "photo.jpg", 8, 1)
    assert pixels[0, 0].max() < 10
    assert pixels[0, 7].min() > 245


def test_exif_that_cannot_be_read_at_all_leaves_the_image_as_it_is(folder, monkeypatch):
    def damaged(self):
        raise ZeroDivisionError("a rational with a denominator of zero")

    monkeypatch.setattr(Image.Image, "getexif", damaged)
    found, lines = said(folder)
    assert len(found) == 4
    assert lines == []


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("00.dds", b"DDS " + struct.pack("<I", 124) + b"\0" * 30),
        ("00.dds", b"DDS " + struct.pack("<I", 124) + b"\xff" * 120),
        ("00.blp", b"BLP2" + b"\xff" * 16),
        ("00.blp", b"BLP1" + b"\x01\0\0\0" * 10),
        ("00.png", b"\x89PNG\r\n\x1a\n\0\0\0\x04IHDR"),
        ("00.ico", b"\0\0\1\0\xff\xff"),
        ("00.jp2", b"\0\0\0\x0cjP  \r\n\x87\n"),
        ("00.psd", b"8BPS\0\1" + b"\xff" * 40),
    ],
)
def test_damaged_files_of_any_format_are_named_and_skipped(folder, name, content):
    (folder / "a" / name).write_bytes(content)
    found, (line,) = said(folder)
    assert len(found) == 4
    assert "1 skipped: " in line
    assert f"{folder}/a/{name}" in line


def test_whatever_a_reader_raises_names_the_file(folder, monkeypatch):
    def load(self):
        raise struct.error("unpack requires a buffer of 4 bytes")

    (folder / "b" / "00.bmp").touch()
    write_image(folder / "b" / "00.bmp", 0)
    monkeypatch.setattr("PIL.BmpImagePlugin.BmpImageFile.load", load)
    _, (line,) = said(folder)
    assert f"{folder}/b/00.bmp: unpack requires a buffer of 4 bytes" in line


def test_a_decompression_bomb_is_not_decoded(folder, monkeypatch):
    monkeypatch.setattr("feature_alignment.data.picture.MOST_PIXELS", 1000)
    write_image(folder / "a" / "00large.png", 0, size=(40, 40))
    found, (line,) = said(folder)
    assert len(found) == 4
    assert "million pixels: 1" in line
    assert "00large.png: 40 x 40" in line


def test_cmyk_is_read(folder):
    Image.new("CMYK", (8, 8), (0, 0, 0, 0)).save(folder / "a" / "00.tif")
    assert read_image(folder / "a" / "00.tif", 8, 3).unique().tolist() == [255]


def test_a_set_with_one_class_has_no_labels_and_says_so(folder):
    for path in (folder / "b").iterdir():
        path.unlink()
    (folder / "list_attr.csv").write_text("a,b")
    found, lines = said(folder)
    assert found.labels is None
    assert found.classes == ()
    assert "all images are in the one folder a, and one class is none: no labels are used" in lines[0]


def test_labels_of_one_class_are_none_and_a_model_needs_none(folder, tmp_path):
    """As shards have them, whose labels lie beside the images."""
    with tarfile.open(tmp_path / "shard.tar", "w") as archive:
        for number in range(20):
            archive.add(folder / "a" / "1.png", f"{number:02}.png")
            (tmp_path / "label.cls").write_text("face")
            archive.add(tmp_path / "label.cls", f"{number:02}.cls")
    with pytest.warns(UserWarning, match="face is the only class, so no labels are used"):
        data = TrainingData(DataOptions(str(tmp_path / "shard.tar"), batch_size=2))
    assert (data.classes, data.train.labels, data.train.classes) == (0, None, ())
    VFA(data.image_shape, latent=3, channels=(4,), width=8, classes=data.classes)


def test_the_home_directory_is_expanded(folder, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("FALIGN_CACHE", "~/elsewhere")
    assert cache_directory() == tmp_path / "elsewhere"
    assert len(load("~/set", "train")) == 4
    assert read_image("~/set/a/1.png", 4, 3).shape == (3, 4, 4)
    monkeypatch.delenv("FALIGN_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "~/xdg")
    assert cache_directory() == tmp_path / "xdg" / "feature-alignment"


def test_heic_is_read_once_pillow_heif_is_there(folder, monkeypatch):
    (folder / "b" / "00misnamed.jpg").write_bytes(b"\0\0\0\x18ftypheic" + bytes(16))
    with tarfile.open(folder.parent / "set.tar", "w") as archive:
        archive.add(folder, "set")
    for place in (folder, folder.parent / "set.tar"):
        (line,) = said(place)[1] if "HEIF" not in formats_module.formats() else [formats_module.HEIC]
        assert formats_module.HEIC in line
        before = set(cache_directory().iterdir()) if cache_directory().is_dir() else set()
        with monkeypatch.context() as patch:
            for module in (folders, archives):
                patch.setattr(module, "readable", lambda: ["another"])
            said(place)
        assert set(cache_directory().iterdir()) - before  # decoded anew


def test_a_tilde_begins_a_name_where_it_is_no_users(folder, monkeypatch):
    monkeypatch.chdir(folder)
    write_image(folder / "~photo.png", (9, 9, 9))
    assert user_path("~photo.png") == Path("~photo.png")
    assert read_image("~photo.png", 4, 3).unique().tolist() == [9]
    with pytest.raises(DataError, match="data set '~nobody/set': neither a known name"):
        load("~nobody/set", "train")


@pytest.mark.parametrize(("count", "split"), [(1, "train"), (2, "test")])
def test_too_few_images_are_said_to_be(tmp_path, count, split):
    for number in range(count):
        write_image(tmp_path / "abc"[number] / "0.png" if count > 1 else tmp_path / "0.png", 0)
    with pytest.raises(DataError, match=rf"no images for the {split} split: {count} are too few to hold some out"):
        load(str(tmp_path), split)
