"""Progress bars: there after a second, if tqdm is."""

from __future__ import annotations

import sys
import time

from feature_alignment.progress import progress


def test_the_items_come_through_and_a_long_loop_says_what_it_does(capsys):
    assert list(progress(range(3), "counting")) == [0, 1, 2]
    assert capsys.readouterr().err == ""
    for item in progress(iter(range(3)), "waiting", 3):
        time.sleep(0.6 * (item < 2))
    assert "waiting" in capsys.readouterr().err


def test_without_tqdm_there_is_no_bar(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    assert list(progress(range(3), "counting")) == [0, 1, 2]
    assert capsys.readouterr().err == ""
