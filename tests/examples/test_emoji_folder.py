"""The script that turns the emoji package into a folder, on tiny archives of the same layout."""

from __future__ import annotations

import importlib.util
import io
import json
import tarfile
from pathlib import Path

import pytest
from PIL import Image

from feature_alignment.data import load

SCRIPT = Path(__file__).parents[2] / "examples" / "emoji_folder.py"
spec = importlib.util.spec_from_file_location("emoji_folder", SCRIPT)
emoji_folder = importlib.util.module_from_spec(spec)
spec.loader.exec_module(emoji_folder)

ENTRIES = [
    {"category": "Smileys & Emotion", "image": "1f600.png", "has_img_google": True},
    {"category": "Smileys & Emotion", "image": "1f601.png", "has_img_google": True},
    {"category": "Flags", "image": "1f1e6.png", "has_img_google": False},
    {
        "category": "People & Body",
        "image": "1f385.png",
        "has_img_google": True,
        "skin_variations": {
            "1F3FB": {"image": "1f385-1f3fb.png", "has_img_google": True},
            "1F3FC": {"image": "1f385-1f3fc.png", "has_img_google": False},
        },
    },
]
SHADES = {"1f600.png": 10, "1f601.png": 20, "1f385.png": 30, "1f385-1f3fb.png": 40}


def png(shade):
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), (shade,) * 3).save(buffer, "PNG")
    return buffer.getvalue()


def archive(directory, entries=ENTRIES, files=None, links=()):
    """Write an archive of the package's layout, with other sizes and vendors beside the folder that counts."""
    content = (
        {f"package/img/google/64/{name}": png(shade) for name, shade in SHADES.items()} if files is None else files
    )
    listing = entries if isinstance(entries, bytes) else json.dumps(entries).encode()
    others = {"package/img/google/sheets/64.png": png(1), "package/img/google/64/old/1f600.png": png(2)}
    path = directory / "emoji.tgz"
    with tarfile.open(path, "w:gz") as package:
        # The list stands behind the first images, as nothing promises an order.
        for name, data in {**content, **others, "package/emoji.json": listing}.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            package.addfile(member, io.BytesIO(data))
        for name, target in links:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, target
            package.addfile(member)
    return path


def written(out):
    return {str(path.relative_to(out)): Image.open(path).getpixel((0, 0))[0] for path in out.rglob("*.png")}


def test_one_folder_a_category(tmp_path, capsys):
    out = tmp_path / "out"
    assert emoji_folder.main([str(archive(tmp_path)), str(out)]) == 0
    assert written(out) == {
        "smileys-and-emotion/1f600.png": 10,
        "smileys-and-emotion/1f601.png": 20,
        "people-and-body/1f385.png": 30,
    }
    assert capsys.readouterr().out.split("\n")[:3] == [
        "    1  people-and-body",
        "    2  smileys-and-emotion",
        f"    3  in all, in {out}",
    ]


def test_variations_that_have_an_image(tmp_path):
    emoji_folder.main([str(archive(tmp_path)), str(tmp_path / "out"), "--variations"])
    found = written(tmp_path / "out")
    assert found["people-and-body/1f385-1f3fb.png"] == 40
    assert len(found) == 4


def test_the_folder_is_a_data_set(tmp_path):
    emoji_folder.main([str(archive(tmp_path)), str(tmp_path / "out"), "--variations"])
    images = load(str(tmp_path / "out"), "train")
    assert images.classes == ("people-and-body", "smileys-and-emotion")
    assert sorted(images.pixels[:, 0, 0, 0].tolist()) == [10, 40]  # the first of two a class; the other is held out


@pytest.mark.parametrize(
    ("category", "folder"),
    [
        ("Smileys & Emotion", "smileys-and-emotion"),
        ("Travel & Places", "travel-and-places"),
        ("Flags", "flags"),
        ("../../etc", "etc"),
        ("..", "other"),
    ],
)
def test_folder_names_are_safe(category, folder):
    assert emoji_folder.folder_name(category) == folder


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"entries": b"{broken"}, "package/emoji.json is not JSON"),
        ({"entries": [{"category": "Flags"}]}, "entry 0 lacks one of category, image, has_img_google"),
        ({"entries": ["flag"]}, "entry 0 lacks"),
        ({"entries": {"a": 1}}, "expected a list of emoji, got dict"),
        ({"entries": []}, "lists no emoji"),
        ({"entries": [{**ENTRIES[0], "image": "../../escaped.png"}]}, "expected the name of a PNG file"),
        ({"files": {}}, "3 images that package/emoji.json lists are not in package/img/google/64/, the first 1f600"),
        # A link is no image: what it points to is outside of the archive.
        ({"files": {}, "links": [("package/img/google/64/1f600.png", "/etc/hostname")]}, "3 images that"),
    ],
)
def test_another_archive_is_one_line_and_code_2(tmp_path, capsys, options, words):
    path, out = archive(tmp_path, **options), tmp_path / "out"
    assert emoji_folder.main([str(path), str(out)]) == 2
    message = capsys.readouterr().err
    assert words in message
    assert str(path) in message
    assert message.count("\n") == 1
    assert not list(tmp_path.rglob("escaped*"))
    assert not out.exists()


def test_no_archive_at_all(tmp_path, capsys):
    assert emoji_folder.main([str(tmp_path / "none.tgz"), str(tmp_path / "out")]) == 2
    assert "no such file" in capsys.readouterr().err


@pytest.mark.parametrize("keep", [0, 100, 0.5])
def test_damaged_archive(tmp_path, capsys, keep):
    path = archive(tmp_path)
    data = path.read_bytes()
    path.write_bytes(b"not a tar" if keep == 0 else data[: int(keep if keep > 1 else keep * len(data))])
    assert emoji_folder.main([str(path), str(tmp_path / "out")]) == 2
    message = capsys.readouterr().err
    assert "not a readable tar archive" in message
    assert message.count("\n") == 1


def test_archive_without_the_list(tmp_path, capsys):
    path = tmp_path / "other.tgz"
    with tarfile.open(path, "w:gz"):
        pass
    assert emoji_folder.main([str(path), str(tmp_path / "out")]) == 2
    assert "expected the npm package emoji-datasource-google" in capsys.readouterr().err


def test_folder_in_use_is_left_alone(tmp_path, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    assert emoji_folder.main([str(archive(tmp_path)), str(tmp_path / "out")]) == 2
    assert "expected a new or empty folder" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]
