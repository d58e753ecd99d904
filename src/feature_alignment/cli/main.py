"""Entry point of ``falign``: dispatches to a command and turns errors into messages and exit codes."""

from __future__ import annotations

import argparse
import io
import signal
import sys
import warnings
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from .. import __version__
from .commands import COMMANDS
from .errors import UsageError, explain, show_warning
from .parser import nearest

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``falign``; return the exit code.

    That is 0 on success, 2 if the request cannot be met, and 128 plus the number of the signal that stopped it. A bug
    is raised, with its traceback; the process then exits with 1.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a name that the terminal cannot show is no reason to stop
            stream.reconfigure(errors="backslashreplace")
    if not given or given[0] in ("-h", "--help", "--version"):
        overview().parse_args(given or ["--help"])
    warnings.showwarning = show_warning
    with suppress(OSError):  # a working directory that was removed
        here = str(Path.cwd())  # where modules of the user's own are, as for `python -m`
        sys.path.extend([here] if here not in sys.path else [])
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
        raise UsageError(f"unknown command {name!r}; expected one of {', '.join(COMMANDS)}{nearest(name, COMMANDS)}")
    options = COMMANDS[name].parse([*arguments])
    # Imported after parsing, so that help and usage errors do not wait for PyTorch.
    from ..core.speed.allocator import reuse_memory

    reuse_memory()
    COMMANDS[name].run(options)


def overview(*, add_options: bool = False) -> argparse.ArgumentParser:
    """Return the parser of ``falign`` itself; with ``add_options``, with the options of all commands."""
    parser = argparse.ArgumentParser(
        prog="falign",
        description="Feature alignment: approximately reversible neural networks that reconstruct and sample.",
        epilog="Every command explains itself: falign COMMAND --help. Exit codes: 0 done; 1 a bug, with its traceback; "
        "2 the request cannot be met, in one line; 128 + N stopped by signal N (130 Ctrl-C, 143 SIGTERM).",
    )
    parser.add_argument("--version", action="version", version=f"falign {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    for name, command in COMMANDS.items():
        if add_options:
            known = command.parser()
            commands.add_parser(name, help=command.about, parents=[known], add_help=False, conflict_handler="resolve")
        else:
            commands.add_parser(name, help=command.about)
    return parser
