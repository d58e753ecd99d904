"""Signals that end a training after the current update."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["Stopped", "Stopper", "interruptible"]


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
        with _handling(self._receive):
            yield self


@contextmanager
def interruptible(message: str) -> Iterator[None]:
    """Stop at once, with ``message``, on Ctrl-C, SIGTERM or SIGHUP: before the first update or after the last.

    Raises:
        Stopped: a signal was received here, or by a :class:`Stopper` within.
    """

    def stop(number: int, frame: Any) -> None:
        raise Stopped(message, number)

    with _handling(stop):
        yield


@contextmanager
def _handling(handler: Callable[[int, Any], None]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    # A signal that is ignored already, such as SIGHUP under nohup, stays ignored.
    before = {each: signal.signal(each, handler) for each in numbers if signal.getsignal(each) != signal.SIG_IGN}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
