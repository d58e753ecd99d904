"""Zip and tar archives and webdataset shards: the same images, splits and classes as of the folder inside."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
import zipfile

import pytest
import torch
from image_files import png, write_image

from feature_alignment.data import DataError, archives, cache_directory, compressed, load, members
from feature_alignment.data.class_archives import named_after_classes

KINDS = [".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz"]


def pack(path, files):
    """Write an archive of files, given as a dictionary of names and bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in files.items():
                archive.writestr(name, content)
        return
    with tarfile.open(
        path, {"gz": "w:gz", "tgz": "w:gz", "bz2": "w:bz2", "xz": "w:xz"}.get(path.suffix[1:], "w")
    ) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("FALIGN_CACHE", str(tmp_path / "cache"))
    return tmp_path


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layout", ["{name}/{number}.png", "top/{part}/{name}/{number}.png", "./{number}.png"])
def test_an_archive_is_the_folder_that_is_in_it(place, kind, layout):
    files = {}
    for number in (11, 3, 7, 0, 20, 5):  # in no order
        name, part = ("dog", "cat")[number % 2], ("train", "VAL")[number > 10]
        files[layout.format(number=number, name=name, part=part)] = png((number, 0, 0))
    for name, content in files.items():
        (place / "folder" / name).parent.mkdir(parents=True, exist_ok=True)
        (place / "folder" / name).write_bytes(content)
    pack(place / f"set{kind}", files)
    for split in ("train", "test"):
        expected = load(str(place / "folder"), split, image_size=6)
        found = load(str(place / f"set{kind}"), split, image_size=6)
        assert found.classes == expected.classes
        values = [each.pixels[:, 0, 0, 0].tolist() for each in (found, expected)]
        labels = [[-1] * len(each) if each.labels is None else each.labels.tolist() for each in (found, expected)]
        assert sorted(zip(values[0], labels[0], strict=True)) == sorted(zip(values[1], labels[1], strict=True))
    assert not [each for each in cache_directory().rglob("*") if each.suffix == ".png"]


def shard(first, last, **label):
    """Samples as webdataset has them: an image and its label under one name."""
    files = {}
    for number in range(first, last):
        files[f"{number:04}.png"] = png((number, 0, 0))
        for kind, of in label.items():
            files[f"{number:04}.{kind}"] = of(number).encode()
    return files


LABELS = {
    "cls": {"cls": lambda number: f"{number % 3 + 9}\n"},
    "json": {"json": lambda number: json.dumps({"label": number % 3 + 9, "caption": "x"})},
    "both": {"cls": lambda number: str(number % 3 + 9), "json": lambda number: json.dumps({"width": 6})},
}


@pytest.mark.parametrize("labels", LABELS)
@pytest.mark.parametrize("whole_folder", [True, False])
def test_shards_with_labels_beside_the_images(place, labels, whole_folder):
    for number in range(3):
        pack(place / "shards" / f"shard-{number:03}.tar", shard(10 * number, 10 * number + 10, **LABELS[labels]))
    name = place / "shards" if whole_folder else place / "shards" / "shard-{000..002}.tar"
    train, test = load(str(name), "train"), load(str(name), "test")
    assert train.classes == ("9", "10", "11")
    assert (len(train), len(test)) == (27, 3)
    for found in (train, test):
        assert torch.equal(found.labels, found.pixels[:, 0, 0, 0].long() % 3)


def test_shards_whose_names_or_folders_state_the_split(place):
    for names in (("set-train-{}.tar", "set-validation-{}.tar"), ("Train/{}.tar", "Val/{}.tar")):
        folder = place / names[0].partition("-")[0].partition("/")[0]
        for name, first in zip(names, (0, 10), strict=True):
            for number in range(2):
                path = folder / name.format(number)
                path.parent.mkdir(parents=True, exist_ok=True)
                pack(path, shard(first + 5 * number, first + 5 * number + 5, cls=lambda number: "ab"[number % 2]))
        assert load(str(folder), "train").pixels[:, 0, 0, 0].tolist() == list(range(10))
        test = load(str(folder), "test")
        assert test.pixels[:, 0, 0, 0].tolist() == list(range(10, 20))
        assert [test.classes[label] for label in test.labels] == ["a", "b"] * 5


def test_a_folder_of_archives_and_these_by_their_names_are_two_sets_in_the_cache(place):
    for number in range(2):
        pack(place / "set" / str(number) / "shard.zip", shard(5 * number, 5 * number + 5))
    expected = {"set": (8, ("0", "1")), "set/{0..1}/shard.zip": (9, ())}
    for names in ([*expected], [*reversed(expected)]):
        shutil.rmtree(cache_directory(), ignore_errors=True)
        found = {name: load(str(place / name), "train", image_size=6) for name in names}
        assert {name: (len(each), each.classes) for name, each in found.items()} == expected


def test_what_is_skipped_in_an_archive_is_counted(place, monkeypatch):
    monkeypatch.setattr(members, "MOST_BYTES", 5000)
    files = {f"a/{number}.png": png((number, 0, 0)) for number in range(4)}
    pack(
        place / "set.zip",
        {**files, "a/0.txt": b"x", "a/00.png": b"torn", "a/large.png": bytes(6000), "__MACOSX/a/._0.png": b"x"},
    )
    for _ in range(2):  # the second time from the cache
        with pytest.warns(UserWarning, match="4 skipped") as caught:
            assert len(load(str(place / "set.zip"), "train")) == 3
        said = " ".join(str(each.message) for each in caught)
        for reason in (
            "no image format: .txt: 1 (set.zip/a/0.txt)",
            "larger than",
            "not a readable image: 1",
            "hidden",
        ):
            assert reason in said
    with pytest.raises(DataError, match=r"4 skipped.*--data.strict"):
        load(str(place / "set.zip"), "train", strict=True)


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_archive_is_refused_by_name(place, kind):
    path = place / f"set{kind}"
    pack(path, {f"{number}.png": png((number, 7, 9), (40, 40)) for number in range(30)})
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2 + 100])
    with pytest.raises(DataError, match=rf"set{kind}: not a readable archive"):
        load(str(path), "train")


def test_a_tar_with_a_damaged_header_in_its_middle_does_not_end_there(place):
    path = place / "set.tar"
    pack(path, {f"{number}.png": png((number, 7, 9)) for number in range(30)})
    content = bytearray(path.read_bytes())
    at = content.index(b"15.png")
    content[at : at + 512] = b"\x55" * 512
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"set.tar: not a readable archive \(no header at byte"):
        load(str(path), "train")


def test_an_encrypted_or_damaged_member_is_skipped(place):
    path = place / "set.zip"
    pack(path, {f"{number}.png": png((number, 7, 9), (30, 30)) for number in range(4)})
    content = bytearray(path.read_bytes())
    at = content.index(b"0.png") + 20
    content[at : at + 8] = b"\xff" * 8
    path.write_bytes(content)
    with pytest.warns(UserWarning, match="damaged in the archive: 1"):
        assert len(load(str(path), "train")) == 2
    with zipfile.ZipFile(path) as archive:
        first = archive.infolist()[1].header_offset
    content = bytearray(path.read_bytes())
    content[first + 6] |= 1  # encrypted, in the local and the central header
    central = content.index(b"PK\x01\x02", content.index(b"PK\x01\x02") + 1)
    content[central + 8] |= 1
    path.write_bytes(content)
    with pytest.warns(UserWarning, match="damaged in the archive: 2"):
        assert len(load(str(path), "train")) == 1


def test_a_member_that_unpacks_to_far_more_than_it_is_in_a_zip_is_skipped(place, monkeypatch):
    monkeypatch.setattr(members, "MOST_FLAT", 1000)
    files = {f"a/{number}.png": png((number, 0, 0)) for number in range(4)}
    pack(place / "set.zip", {**files, "a/bomb.png": bytes(10**6)})
    with pytest.warns(UserWarning, match=r"unpacks to more than 100 times its size: 1 \(a/bomb.png\)"):
        assert len(load(str(place / "set.zip"), "train")) == 3


@pytest.mark.parametrize("kind", [".tar.gz", ".tar.bz2", ".tar.xz"])
def test_a_compressed_tar_that_unpacks_to_far_more_than_it_is_is_refused(place, kind, monkeypatch):
    monkeypatch.setattr(compressed, "FREE", 1000)
    pack(place / f"set{kind}", {"1.png": png((1, 0, 0)), "2.png": bytes(3 * 10**6)})
    with pytest.raises(DataError, match=r"not a readable archive .it unpacks to more than 100 times its size"):
        load(str(place / f"set{kind}"), "train")


def test_a_label_of_many_bytes_is_not_read(place, monkeypatch):
    monkeypatch.setattr(archives, "MOST_TEXT", 100)
    files = shard(0, 4, cls=lambda number: "ab"[number % 2])
    pack(place / "set.tar", {**files, "0000.json": b'{"label": "c"}' + b" " * 200})
    with pytest.warns(UserWarning, match=r"no image format: .json: 1"):
        assert load(str(place / "set.tar"), "train").classes == ("a", "b")


def test_an_archive_without_an_image_says_what_is_in_it(place):
    pack(place / "set.zip", {"a/1.txt": b"x"})
    with pytest.raises(DataError, match=r"no images for the train split .*; there: 1 skipped: no image format: .txt"):
        load(str(place / "set.zip"), "train")


@pytest.mark.parametrize("below", ["", "train/"])
def test_archives_called_after_classes_are_classes(place, below):
    """ImageNet as it is distributed: one tar for each class, called after its WordNet number."""
    for number, name in enumerate(("n01440764", "n01443537", "n01484850")):
        files = {f"{name}_{image}.JPEG": png((10 * number + image, 0, 0)) for image in range(3)}
        (place / "set" / below).mkdir(parents=True, exist_ok=True)
        pack(place / "set" / below / f"{name}.tar", files)
    if below:
        pack(place / "set" / "val.tar", {f"val_{image}.JPEG": png((image, 0, 0)) for image in range(3)})
    with pytest.warns(UserWarning, match="the 3 archives are taken for classes, by their names: n01440764, n01443537"):
        found = load(str(place / "set"), "train")
    assert found.classes == ("n01440764", "n01443537", "n01484850")
    assert torch.equal(found.labels, found.pixels[:, 0, 0, 0].long() // 10)
    assert len(found) == (9 if below else 6)


@pytest.mark.parametrize(
    "names", [("shard-000", "shard-001"), ("s3", "s7", "s-9"), ("0", "1"), ("a-2", "a-9"), ("b7", "b8")]
)
def test_shards_by_their_numbers_are_not_classes(place, names):
    if "s-9" in names:  # two prefixes: these are names
        assert named_after_classes(names)
        return
    for number, name in enumerate(names):
        pack(place / "set" / f"{name}.tar", shard(5 * number, 5 * number + 5))
    assert load(str(place / "set"), "train").classes == ()


def test_archives_with_labels_or_folders_are_not_classes(place):
    pack(place / "one" / "x.tar", shard(0, 5, cls=lambda number: "ab"[number % 2]))
    pack(place / "one" / "y.tar", shard(5, 10, cls=lambda number: "ab"[number % 2]))
    assert load(str(place / "one"), "train").classes == ("a", "b")
    pack(place / "two" / "x.tar", {f"c/{number}.png": png((number, 0, 0)) for number in range(3)})
    pack(place / "two" / "y.tar", {f"d/{number}.png": png((number, 0, 0)) for number in range(3)})
    assert load(str(place / "two"), "train").classes == ("c", "d")


def test_missing_archives_are_named(place):
    pack(place / "shard-000.tar", shard(0, 2))
    with pytest.raises(DataError, match=r"no file .*shard-001.tar, and 1 more of 3"):
        load(str(place / "shard-{000..002}.tar"), "train")
    with pytest.raises(DataError, match=r"no file .*owner/name.zip"):
        load("owner/name.zip", "train")


def test_archives_beside_images_are_counted(place):
    for number in range(3):
        write_image(place / "set" / f"{number}.png", 0)
    pack(place / "set" / "original.zip", shard(0, 2))
    with pytest.warns(UserWarning, match=r"archives beside images: 1 \(original.zip\)"):
        load(str(place / "set"), "train")


def test_deep_images_in_an_archive_have_one_scale(place):
    import numpy as np
    from PIL import Image

    files = {}
    for number, value in enumerate((255, 256, 65535)):
        content = io.BytesIO()
        Image.fromarray(np.full((4, 4), value, np.uint16)).save(content, "png")
        files[f"{number}.png"] = content.getvalue()
    pack(place / "set.tgz", files)
    assert load(str(place / "set.tgz"), "train", channels=1).pixels[:, 0, 0, 0].tolist() == [1, 1]


def test_a_tar_that_is_cut_off_between_two_files_is_refused(place):
    path = place / "set.tar"
    pack(path, shard(0, 20, cls=lambda number: str(number % 2)))
    content = path.read_bytes()
    path.write_bytes(content[: content.index(b"0011.cls")])
    with pytest.raises(DataError, match=r"set.tar: not a readable archive \(it stops at byte [\d,]+ without an end"):
        load(str(path), "train")


def test_numbers_below_0_are_the_same_in_both_files_of_labels(place):
    files = shard(0, 20, cls=lambda number: str(-1 - number % 2)) | shard(
        20, 40, json=lambda number: json.dumps({"label": -1 - number % 2})
    )
    pack(place / "set.tar", files)
    found = load(str(place / "set.tar"), "train")
    assert found.classes == ("-2", "-1")
    assert len(found) == 36
