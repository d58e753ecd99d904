"""What a user should know of a data set that was read: what was skipped, by reason, and what was guessed."""

from __future__ import annotations

import threading
import warnings
from typing import Any

from .errors import DataError, UnreadableImage

__all__ = ["Findings"]

#: Examples that are named for each reason.
EXAMPLES = 3


class Findings:
    """Everything that was skipped, counted by reason, and notes on what was guessed or left unused.

    Args:
        saved: as returned by :meth:`as_json`.

    Example:
        >>> findings = Findings()
        >>> findings.skip("no image format: .pdf", "README.pdf")
        >>> findings.line("my_images")
        'my_images: 1 skipped: no image format: .pdf: 1 (README.pdf)'
    """

    def __init__(self, saved: dict[str, Any] | None = None) -> None:
        saved = saved or {}
        self._lock = threading.Lock()  # images are decoded by several threads
        self.skipped: dict[str, list[Any]] = {reason: list(each) for reason, each in saved.get("skipped", {}).items()}
        self.notes: list[str] = list(saved.get("notes", []))
        #: Something could not be read that another time may be, so the set is not to be kept in the cache.
        self.transient = False

    def skip(self, reason: str, example: str, count: int = 1) -> None:
        """Count what is skipped, under a reason; the first few are named."""
        with self._lock:
            found = self.skipped.setdefault(reason, [0, []])
            found[0] += count
            if len(found[1]) < EXAMPLES:
                found[1].append(example)

    def unreadable(self, error: UnreadableImage) -> None:
        """Count an image that cannot be read."""
        self.transient |= error.transient
        self.skip(error.reason, f"{error.name}: {error.detail}" if error.detail else error.name)

    def note(self, text: str) -> None:
        """Remember a note; the same one is said once."""
        with self._lock:
            if text not in self.notes:
                self.notes.append(text)

    def as_json(self) -> dict[str, Any]:
        """Return a value for a JSON file."""
        return {"skipped": self.skipped, "notes": self.notes}

    def __add__(self, other: Findings) -> Findings:
        total = Findings(self.as_json())
        total.transient = self.transient or other.transient
        for reason, (count, examples) in other.skipped.items():
            found = total.skipped.setdefault(reason, [0, []])
            total.skipped[reason] = [found[0] + count, (found[1] + examples)[:EXAMPLES]]
        for note in other.notes:
            total.note(note)
        return total

    def line(self, title: str) -> str:
        """Return one line about everything that was skipped."""
        total = sum(count for count, _ in self.skipped.values())
        reasons = [
            f"{reason}: {count:,} ({', '.join(examples)}{', ...' if count > len(examples) else ''})"
            for reason, (count, examples) in self.skipped.items()
        ]
        return f"{title}: {total:,} skipped: {'; '.join(reasons)}"

    def refuse(self, title: str, strict: bool) -> None:
        """Raise a DataError if anything was skipped and that is not allowed."""
        if strict and self.skipped:
            raise DataError(f"{self.line(title)}; nothing may be, with --data.strict true")

    def announce(self, title: str, strict: bool) -> None:
        """Warn of what was skipped, in one line, and of every note.

        Raises:
            DataError: something was skipped, and ``strict``.
        """
        self.refuse(title, strict)
        for note in self.notes:
            warnings.warn(f"{title}: {note}", stacklevel=3)
        if self.skipped:
            warnings.warn(self.line(title), stacklevel=3)
