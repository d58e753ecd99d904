"""Pictures in memory and in files."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from feature_alignment.report.figure import finish, new_axes, new_panels


def test_without_a_path_the_picture_is_in_memory_and_with_one_the_file_is_the_same(tmp_path):
    path = tmp_path / "new" / "picture.png"
    contents = []
    for place in (None, path):
        figure, axes = new_axes(3, 2, "title")
        axes.plot([0, 1], [0, 1])
        contents.append(finish(figure, place))
    assert Image.open(io.BytesIO(contents[0])).size == (300, 200)
    assert contents[0] == contents[1] == path.read_bytes()


@pytest.mark.parametrize(
    ("name", "written", "start"),
    [
        ("a.png", "a.png", b"\x89PNG"),
        ("a", "a.png", b"\x89PNG"),
        ("a.jpg", "a.jpg", b"\xff\xd8"),
        ("a.pdf", "a.pdf", b"%PDF"),
    ],
)
def test_the_extension_says_the_format(tmp_path, name, written, start):
    content = finish(new_axes(1, 1, "")[0], tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == [written]
    assert content.startswith(start)
    assert (tmp_path / written).read_bytes() == content


def test_a_format_that_does_not_exist_is_refused_and_leaves_nothing(tmp_path):
    with pytest.raises(ValueError, match="Format 'nope' is not supported"):
        finish(new_axes(1, 1, "")[0], tmp_path / "a.nope")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("count", "size"), [(1, (300, 230)), (3, (900, 230)), (4, (900, 430))])
def test_panels_fill_as_many_rows_as_they_need(count, size):
    figure, panels = new_panels(count, 3, (3, 2, 0.3), "title")
    assert len(panels) == len(figure.axes) == count
    assert Image.open(io.BytesIO(finish(figure, None))).size == size


@pytest.mark.parametrize(("ending", "largest"), [("jpg", 65_500), ("JPEG", 65_500), ("webp", 16_383)])
def test_a_format_that_cannot_hold_the_picture_is_named(tmp_path, ending, largest):
    path = tmp_path / f"a.{ending}"
    with pytest.raises(
        OSError, match=rf"a.{ending}: {ending} holds at most {largest:,} pixels a side, this is 65,510 x"
    ):
        finish(new_axes(655.1, 1, "")[0], path)
    assert not path.exists()
