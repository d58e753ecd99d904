"""The log: lines that were cut off are no lines."""

from __future__ import annotations

import errno

import pytest

from feature_alignment.files import write_atomically
from feature_alignment.training.log import Log, read_rows


@pytest.mark.parametrize("length", range(1, 11))
def test_a_line_that_was_cut_is_left_out_even_if_it_is_still_one_of_numbers(length, tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("epoch,step,loss\n0,1,2.0\n" + "0,19,1.234\n"[:length])
    expected = [{"epoch": 0, "step": 1, "loss": 2.0}]
    assert read_rows(path) == expected + [{"epoch": 0, "step": 19, "loss": 1.234}] * (length == 11)


def test_a_full_disk_leaves_the_old_lines(tmp_path, monkeypatch):
    path = tmp_path / "log.csv"
    write_atomically(path, "epoch,step,loss\n0,1,2.0\n")

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*log\.csv'"):
        Log(path, 5)
    assert path.read_text() == "epoch,step,loss\n0,1,2.0\n"
