"""Files are written whole or not at all."""

from __future__ import annotations

import os
import stat

import pytest

from feature_alignment.files import atomic_path, read_yaml, write_atomically


@pytest.mark.parametrize(("content", "expected"), [("é\n", b"\xc3\xa9\n"), (b"\0\r\n", b"\0\r\n"), ("", b"")])
def test_text_and_bytes_are_written_as_they_are(tmp_path, content, expected):
    path = tmp_path / "new" / "file"
    for _ in range(2):  # the second time over the first
        write_atomically(path, content)
        assert path.read_bytes() == expected
    assert list(path.parent.iterdir()) == [path]


def test_an_error_leaves_the_old_content_and_nothing_else(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")

    def fail():
        with atomic_path(path) as scratch:
            scratch.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_has_the_permissions_of_any_other_new_file(tmp_path):
    write_atomically(tmp_path / "ours", "x")
    (tmp_path / "other").write_text("x")
    ours, other = (stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("ours", "other"))
    assert ours == other


def test_two_writers_do_not_share_a_scratch_file(tmp_path):
    with atomic_path(tmp_path / "file") as one, atomic_path(tmp_path / "file") as two:
        assert one != two
        assert os.path.dirname(one) == os.path.dirname(two) == str(tmp_path)  # noqa: PTH120
        one.write_text("1")
        two.write_text("2")
    assert (tmp_path / "file").read_text() == "1"  # the last one to finish


def test_who_reads_the_old_file_reads_it_to_its_end(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with path.open() as reader:
        write_atomically(path, "new content")
        assert reader.read() == "old"
    assert path.read_text() == "new content"


@pytest.mark.parametrize(
    "text",
    [
        "a: [",
        "2001-99-99",
        "!!int x",
        "[" * 5000,
        "a: &a [*a]",
        "!!python/object/apply:os.getcwd []",
        "? {a: b}\n: c",
        "[" + "0," * 40_000 + "]",
    ],
)
def test_what_is_no_yaml_of_plain_values_is_one_line(tmp_path, text):
    (tmp_path / "file.yaml").write_text(text)
    with pytest.raises(ValueError, match=r"^[^\n]+$"):
        read_yaml(tmp_path / "file.yaml")


def test_aliases_are_counted_as_the_values_they_stand_for(tmp_path):
    """Nine to the tenth values, in ten lines."""
    lines = ["a0: &a0 [0]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 11))]
    (tmp_path / "file.yaml").write_text("\n".join(lines))
    with pytest.raises(ValueError, match="more than 100,000 values"):
        read_yaml(tmp_path / "file.yaml")
    (tmp_path / "file.yaml").write_text("\n".join(lines[:3]))
    assert read_yaml(tmp_path / "file.yaml")["a2"] == [[[0]] * 9] * 9


def test_an_error_names_the_file_and_not_the_scratch_file(tmp_path):
    """Where it cannot be renamed, its name being too long or a folder's; that of a scratch file is short."""
    long, folder = tmp_path / ("a" * 300), tmp_path / "folder"
    write_atomically(tmp_path / ("ä" * 120), "x")
    folder.mkdir()
    for path in (long, folder):
        with pytest.raises(OSError, match=r"\[Errno") as caught:
            write_atomically(path, "x")
        assert str(caught.value).endswith(f": '{path}'")
    with pytest.raises(FileNotFoundError, match="'other'"), atomic_path(tmp_path / "file"):
        raise FileNotFoundError(2, "No such file", "other")
