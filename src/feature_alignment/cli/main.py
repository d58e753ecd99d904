"""Entry point of ``falign``: dispatches to a command and turns errors into messages and exit codes."""

from __future__ import annotations

import argparse
import signal
import sys
import warnings
from collections.abc import Sequence

from .. import __version__
from .commands import COMMANDS
from .errors import UsageError, explain, show_warning

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``falign``; return the exit code.

    That is 0 on success, 2 if the request cannot be met, and 128 plus the number of the signal that stopped it.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0] in ("-h", "--help", "--version"):
        _overview().parse_args(given or ["--help"])
    warnings.showwarning = show_warning
    try:
        _run(*given)
    except KeyboardInterrupt as interrupt:
        print(f"falign: interrupted {interrupt}".strip(), file=sys.stderr)
        return 128 + getattr(interrupt, "signal", signal.SIGINT)
    except Exception as error:
        line = explain(error)
        if line is None:
            raise
        print(f"falign: error: {line}", file=sys.stderr)
        return 2
    return 0


def _run(name: str, *arguments: str) -> None:
    if name not in COMMANDS:
        raise UsageError(f"unknown command {name!r}; expected one of {', '.join(COMMANDS)}")
    options = COMMANDS[name].parse([*arguments])
    # Imported after parsing, so that help and usage errors do not wait for PyTorch.
    from ..core.speed.allocator import reuse_memory

    reuse_memory()
    COMMANDS[name].run(options)


def _overview() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="falign",
        description="Feature alignment: approximately reversible neural networks that reconstruct and sample.",
        epilog="Every command explains itself: falign COMMAND --help",
    )
    parser.add_argument("--version", action="version", version=f"falign {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    for name, command in COMMANDS.items():
        commands.add_parser(name, help=command.about)
    return parser
