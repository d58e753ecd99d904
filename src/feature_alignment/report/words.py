"""Words in pictures: drawn as they are written, in any script."""

from __future__ import annotations

import functools
from collections.abc import Iterable

from ..extras import require

__all__ = ["drawable", "drawn", "families"]


def drawn(texts: Iterable[str]) -> tuple[list[str], list[str]]:
    """Return texts as matplotlib draws them, see :func:`drawable`, and the font families, see :func:`families`."""
    texts = list(texts)
    return [drawable(each) for each in texts], families(texts)


def drawable(text: str) -> str:
    r"""Return the text as matplotlib is to be given it, to be drawn with :func:`families`.

    A ``$`` does not begin a formula; what no installed font has, such as bytes that are no text, becomes its escape.

    Example:
        >>> drawable("5$ to 7$"), drawable("a\udcff")
        ('5\\$ to 7\\$', 'a\\udcff')
    """
    return "".join(_drawable(letter) for letter in text)


def _drawable(letter: str) -> str:
    if letter == "$":
        return r"\$"
    if letter == "\n" or (letter.isprintable() and _font(letter) is not None):
        return letter
    return letter.encode("unicode_escape").decode()


def families(texts: Iterable[str]) -> list[str]:
    """Return the font families that draw the texts: matplotlib's own, then one for every letter that it lacks.

    Example:
        >>> families(["a", "b"])
        ['DejaVu Sans']
    """
    found = (_font(letter) for text in texts for letter in text if letter.isprintable())
    return list(dict.fromkeys(["DejaVu Sans", *(name for name in found if name is not None)]))


@functools.cache
def _font(letter: str) -> str | None:
    """Return the family of an installed font that has the letter; none if there is none."""
    code = ord(letter)
    for name, letters in _fonts():
        if code in letters():
            return name
    return None


@functools.cache
def _fonts() -> list[tuple[str, functools.partial[frozenset[int]]]]:
    fonts = require("matplotlib.font_manager", "train", "pictures").fontManager.ttflist
    upright = [each for each in fonts if each.style == "normal" and each.weight in (400, "normal", "regular")]
    # A font without text, such as the one of the last resort, has a box for every letter.
    named = {each.name: each.fname for each in reversed(upright) if "Last Resort" not in each.name}
    order = sorted(named, key=lambda name: (name != "DejaVu Sans", name))
    return [(name, functools.partial(_letters, named[name])) for name in order]


@functools.cache
def _letters(path: str) -> frozenset[int]:
    try:
        return frozenset(require("matplotlib.ft2font", "train", "pictures").FT2Font(path).get_charmap())
    except (OSError, RuntimeError):  # a font that FreeType cannot open
        return frozenset()
