"""Signals that end a training after the current update."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["Stopped", "Stopper"]


class Stopped(KeyboardInterrupt):
    """A training was stopped by a signal and can be resumed; the message is one line for the user.

    Attributes:
        signal: number of the signal.
    """

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.signal = number


class Stopper:
    """Records a signal until the current update is complete; a second Ctrl-C interrupts at once."""

    def __init__(self) -> None:
        self.received: int | None = None

    def _receive(self, number: int, frame: Any) -> None:
        if self.received is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = number

    @contextmanager
    def listening(self) -> Iterator[Stopper]:
        """Handle Ctrl-C, SIGTERM and SIGHUP; outside the main thread, which Python requires, do nothing."""
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        numbers = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
        # A signal that is ignored already, such as SIGHUP under nohup, stays ignored.
        heard = [number for number in numbers if signal.getsignal(number) != signal.SIG_IGN]
        before = {number: signal.signal(number, self._receive) for number in heard}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
