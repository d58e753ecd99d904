"""Signals that end a training in good order."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["Stopped", "Stopper"]


class Stopped(KeyboardInterrupt):
    """A training was stopped by a signal and can go on; the message is one line for the user.

    Attributes:
        signal: its number.
    """

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.signal = number


class Stopper:
    """Remembers a signal until the update at work is complete; the second Ctrl-C interrupts at once."""

    def __init__(self) -> None:
        self.received: int | None = None

    def _receive(self, number: int, frame: Any) -> None:
        if self.received is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = number

    @contextmanager
    def listening(self) -> Iterator[Stopper]:
        """Listen to Ctrl-C, SIGTERM and SIGHUP, which the main thread alone can do."""
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        numbers = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
        # One that is ignored, as under nohup, stays so.
        heard = [number for number in numbers if signal.getsignal(number) != signal.SIG_IGN]
        before = {number: signal.signal(number, self._receive) for number in heard}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
