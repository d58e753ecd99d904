"""The argument parser shared by the commands."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any, NoReturn

from .commands import COMMANDS
from .errors import UsageError

__all__ = ["Parser", "Renamed", "description"]


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
        raise UsageError(f"{message} (see {self.prog} --help)")


class Renamed(argparse.Action):
    """An option's old name, refused with a message that gives the new name, ``const``."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> NoReturn:
        """Refuse the old name."""
        raise UsageError(f"{option_string} is now {self.const}")
