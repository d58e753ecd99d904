"""Errors in data sets and images."""

from __future__ import annotations

import textwrap

__all__ = ["DataError", "UnreadableImage", "one_line"]


class DataError(Exception):
    """A data set or image that is missing or unusable; the message is one line for the user."""


class UnreadableImage(DataError):  # noqa: N818 (it names what is unreadable)
    """One image that cannot be read.

    Args:
        name: of the image.
        detail: why it cannot be read.
        reason: under which it is counted if it is skipped.
        transient: it may be readable another time, such as a file without permission to read it.
    """

    def __init__(
        self, name: str, detail: str, reason: str = "not a readable image", *, transient: bool = False
    ) -> None:
        super().__init__(f"{name}: {reason} ({detail})" if detail else f"{name}: {reason}")
        self.name, self.detail, self.reason, self.transient = name, detail, reason, transient


def one_line(error: BaseException) -> str:
    """Return the message of an error of another library, shortened to one line."""
    return textwrap.shorten(str(error), 300, placeholder=" ...") or type(error).__name__
