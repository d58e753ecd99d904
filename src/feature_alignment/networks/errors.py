"""Errors of networks that cannot be loaded."""

from __future__ import annotations

import difflib
import re
import textwrap
from collections.abc import Iterable

__all__ = ["NetworkError", "nearest", "reason"]


#: Sequences by which terminals are told colours.
ESCAPES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


class NetworkError(Exception):
    """A network that cannot be had as asked for; the message is one line for the user."""


def nearest(wanted: str, known: Iterable[str], count: int = 3) -> str:
    """Return ``; nearest: NAME, NAME`` for the most similar of the known names, or nothing if none is similar.

    Example:
        >>> nearest("resnet81", ["resnet18", "vgg11"])
        '; nearest: resnet18'
    """
    found = difflib.get_close_matches(wanted, list(known), count, cutoff=0.5)
    return f"; nearest: {', '.join(found)}" if found else ""


def reason(error: BaseException) -> str:
    """Return an error of another library as one line of at most 300 characters."""
    text = textwrap.shorten(ESCAPES.sub("", str(error)), 300, placeholder=" ...")
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
