"""Progress: a bar on a terminal; elsewhere, in a file or a pipe, a line now and then."""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from typing import Any, TypeVar

__all__ = ["Progress", "bars_on_a_terminal_alone", "progress"]

T = TypeVar("T")

#: Seconds between two lines where there is no terminal.
EVERY = 10.0


class Progress:
    """The progress of a loop on the standard error stream; without tqdm there is no bar, only lines.

    Args:
        doing: description shown beside it.
        total: number of items, if it is known.
        done: number of items done already.
        unit: of the items.
        shown: show anything at all.
        delay: seconds before a bar appears.

    Attributes:
        said: text to show beside the numbers.
    """

    def __init__(
        self, doing: str, total: int | None, done: int = 0, unit: str = "it", *, shown: bool = True, delay: float = 0
    ) -> None:
        self.doing, self.total, self.first, self.unit, self.shown, self.said = doing, total, done, unit, shown, ""
        self.began = self.written = time.perf_counter()
        self.bar = self._bar(done, delay) if shown and sys.stderr.isatty() else None

    def _bar(self, done: int, delay: float) -> Any:
        try:
            from tqdm import tqdm
        except ModuleNotFoundError:
            return None
        return tqdm(total=self.total, initial=done, desc=self.doing, unit=self.unit, delay=delay, dynamic_ncols=True)

    def update(self, done: int) -> None:
        """Show that ``done`` items are done."""
        if self.bar is not None:
            self.bar.set_postfix_str(self.said, refresh=False)
            self.bar.update(done - self.bar.n)
        elif self.shown and (now := time.perf_counter()) - self.written >= EVERY:
            self.written = now
            print(self._line(done, (done - self.first) / (now - self.began)), file=sys.stderr, flush=True)

    def print(self, line: str) -> None:
        """Print a line to the standard output, above the bar."""
        if self.bar is not None:
            self.bar.write(line)
        else:
            print(line, flush=True)

    def _line(self, done: int, rate: float) -> str:
        count = f"{done:,}" if self.total is None else f"{done:,} of {self.total:,}"
        left = f", {round((self.total - done) / rate):,} s left" if self.total is not None and rate > 0 else ""
        return f"{self.doing}: {count} {self.unit}s, {rate:.3g} a second{left}" + (
            f"; {self.said}" if self.said else ""
        )

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.close()


def progress(items: Iterable[T], doing: str, total: int | None = None) -> Iterator[T]:
    """Iterate over ``items``, with a progress bar that appears after a second; see :class:`Progress`.

    Args:
        items: any iterable.
        doing: description shown beside the bar.
        total: number of items; by default their ``len``, if they have one.
    """
    if total is None and isinstance(items, Sized):
        total = len(items)
    with Progress(doing, total, unit="item", delay=1) as bar:
        for done, item in enumerate(items, 1):
            yield item
            bar.update(done)


@contextmanager
def bars_on_a_terminal_alone(*libraries: str) -> Iterator[None]:
    """Have libraries of the Hugging Face Hub draw their bars on a terminal only, not into a file or a pipe.

    Args:
        libraries: their names, ``datasets`` and ``huggingface_hub``, which are installed.
    """
    switches = [] if sys.stderr.isatty() else [importlib.import_module(f"{name}.utils") for name in libraries]
    shown = [each for each in switches if not each.are_progress_bars_disabled()]
    for each in shown:
        each.disable_progress_bars()
    try:
        yield
    finally:
        for each in shown:
            each.enable_progress_bars()
