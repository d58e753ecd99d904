"""Errors in data sets and images."""

from __future__ import annotations

import textwrap

__all__ = ["DataError", "one_line"]


class DataError(Exception):
    """A data set or image that is missing or unusable; the message is one line for the user."""


def one_line(error: Exception) -> str:
    """Return the message of an error of another library, shortened to one line."""
    return textwrap.shorten(str(error), 300, placeholder=" ...") or type(error).__name__
