"""The argument parser shared by the commands."""

from __future__ import annotations

import argparse
import difflib
import os
import re
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

from ..training.options import LARGEST_SEED
from .commands import COMMANDS
from .errors import UsageError

__all__ = ["Parser", "Renamed", "accelerator", "description", "nearest", "path", "seed"]


def path(text: str) -> str:
    """Return a path in which ``~`` is the user's home, also after ``--out=``, where a shell leaves it as it is."""
    return os.path.expanduser(text)  # noqa: PTH111 (a trailing slash says that a folder is wanted)


def accelerator(device: str) -> dict[str, Any]:
    """Return a training's options for a device, ``cuda`` or, as PyTorch names one of several, ``cuda:1``.

    Example:
        >>> accelerator("cuda:1"), accelerator("auto")
        ({'accelerator': 'cuda', 'devices': '1,'}, {'accelerator': 'auto'})
    """
    kind, colon, number = device.partition(":")
    if not colon:
        return {"accelerator": kind}
    if not number.isdecimal():
        raise UsageError(f"--device: expected a kind, or one and its number such as cuda:1, got {device}")
    return {"accelerator": kind, "devices": 1 if kind == "cpu" else f"{int(number)},"}  # a list of one


def seed(text: str) -> int:
    """Return the seed of random numbers, in the range of all libraries that draw some.

    Raises:
        ArgumentTypeError: it is out of range, or not a whole number.
    """
    try:
        number = int(text)
    except ValueError:
        number = -1
    if not 0 <= number <= LARGEST_SEED:
        raise argparse.ArgumentTypeError(f"expected a whole number from 0 to {LARGEST_SEED}, got {text}")
    return number


def nearest(wanted: str, known: Iterable[str]) -> str:
    """Return ``; did you mean NAME?`` for the nearest of the known names, or nothing if none is near.

    Example:
        >>> nearest("--row", ["--out", "--rows"]), nearest("--bogus", ["--latent"])
        ('; did you mean --rows?', '')
    """
    names = {name.lower(): name for name in known}
    found = difflib.get_close_matches(wanted.lower(), list(names), 1)
    return f"; did you mean {names[found[0]]}?" if found else ""


def description(command: str) -> str:
    """Return the first line of a command's help."""
    about, example, _ = COMMANDS[command]
    return f"{about[0].upper()}{about[1:]}. Example: {example}"


class Parser(argparse.ArgumentParser):
    """The parser of one command: files and options in any order; errors are raised as :class:`UsageError`.

    Args:
        command: its name.
        options: as for :class:`argparse.ArgumentParser`.
    """

    def __init__(self, command: str, **options: Any) -> None:
        super().__init__(prog=f"falign {command}", description=description(command), allow_abbrev=False, **options)

    def parse(self, arguments: Sequence[str]) -> argparse.Namespace:
        """Parse the arguments of the command."""
        return self.parse_intermixed_args(arguments)

    def error(self, message: str) -> NoReturn:  # noqa: D102
        unknown = re.match(r"unrecognized arguments: (-[^\s=]+)", message)
        hint = nearest(unknown[1], self._option_string_actions) if unknown else ""
        raise UsageError(f"{message}{hint} (see {self.prog} --help)")


class Renamed(argparse.Action):
    """An option's old name, refused with a message that gives the new name, ``const``."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> NoReturn:
        """Refuse the old name."""
        raise UsageError(f"{option_string} is now {self.const}")
