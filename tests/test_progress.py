"""Progress: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import io
import sys
import time

import pytest

from feature_alignment import progress as shown
from feature_alignment.progress import Progress, progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    """A clock that goes on by a second whenever it is read."""
    seconds = iter(range(10**6))
    monkeypatch.setattr(shown.time, "perf_counter", lambda: float(next(seconds)))


def test_the_items_come_through_and_a_short_loop_says_nothing(capsys):
    assert list(progress(range(3), "counting")) == [0, 1, 2]
    assert capsys.readouterr().err == ""


def test_elsewhere_there_is_a_line_now_and_then(capsys, clock):
    assert len(list(progress(range(40), "counting"))) == 40
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 4  # one in ten seconds
    assert lines[0] == "counting: 10 of 40 items, 1 a second, 30 s left"


def test_a_line_has_the_numbers_of_the_loop_and_counts_from_where_it_began(capsys, clock):
    with Progress("training", 120, 100, "step") as bar:
        bar.said = "kl 3.2"
        for done in range(101, 121):
            bar.update(done)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [f"training: {done} of 120 steps, 1 a second, {120 - done} s left; kl 3.2" for done in (110, 120)]


def test_on_a_terminal_there_is_a_bar_after_a_second(monkeypatch):
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    for item in progress(iter(range(3)), "waiting", 3):
        time.sleep(0.6 * (item < 2))
    assert "waiting:" in terminal.getvalue()
    assert "\r" in terminal.getvalue()


def test_without_tqdm_there_is_no_bar(monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    assert list(progress(range(3), "counting")) == [0, 1, 2]
    assert terminal.getvalue() == ""
