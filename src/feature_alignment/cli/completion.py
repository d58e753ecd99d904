"""``falign completion``: a script that completes the commands and options in a shell.

The script is written by shtab from the parsers themselves. It is static: a completion that asks ``falign`` would import
PyTorch at every key.
"""

from __future__ import annotations

from argparse import Namespace

from ..extras import require
from .parser import Parser

__all__ = ["parse", "parser", "run"]

SHELLS = ["bash", "zsh", "fish"]


def parser() -> Parser:
    """Return the parser of the command."""
    parser = Parser("completion")
    parser.add_argument("shell", choices=SHELLS, help="for bash and zsh: eval its output; for fish: pipe it to source")
    return parser


def parse(arguments: list[str]) -> Namespace:
    """Parse the arguments of the command."""
    return parser().parse(arguments)


def run(options: Namespace) -> None:
    """Print the script."""
    from .main import overview

    shtab = require("shtab", "train", "falign completion")
    whole = overview(add_options=True)
    print(shtab.complete(whole, shell=options.shell))
