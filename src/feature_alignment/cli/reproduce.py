"""``falign reproduce``: reproduce the paper's tables and figures."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from .errors import UsageError
from .inception import add_inception, inception
from .parser import Parser, path

__all__ = ["parse", "parser", "run"]


class _Parser(Parser):
    def format_help(self) -> str:
        # Imported here: the registry imports everything that the figures need.
        from ..reproduce import TARGETS

        self.epilog = f"targets: {', '.join(TARGETS)}, all"
        return super().format_help()


def parser() -> Parser:
    """Return the parser of the command."""
    parser = _Parser("reproduce")
    parser.add_argument("target", help="a table or figure, or all that the paper has for a kind of data set")
    parser.add_argument("--data", type=path, default="", help="data set or folder (default: the paper's)")
    parser.add_argument(
        "--scale",
        choices=["smoke", "cpu", "paper"],
        default="cpu",
        help="paper: its setting, for a GPU; cpu (default): narrower and shorter; smoke: to see that everything runs",
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="one training each (default: 0 1 2)")
    parser.add_argument("--out", type=path, default="", help="directory to write (default: reproduction/SCALE)")
    add_inception(parser)
    return parser


def parse(arguments: list[str]) -> Namespace:
    """Parse the arguments of the command."""
    return parser().parse(arguments)


def run(options: Namespace) -> None:
    """Make the table or figure, and the report on all results in the directory."""
    from ..reproduce import TARGETS, reproduce

    if options.target not in (*TARGETS, "all"):
        raise UsageError(f"target {options.target!r}: expected one of {', '.join(TARGETS)}, all")
    if len(set(options.seeds)) < len(options.seeds) or min(options.seeds) < 0:
        raise UsageError(f"--seeds: expected different numbers of at least 0, got {' '.join(map(str, options.seeds))}")
    out = Path(options.out or f"reproduction/{options.scale}")
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out {out}: is a file, expected a directory")
    written = reproduce(options.target, options.data or None, options.scale, options.seeds, out, inception(options))
    print(f"Wrote {written[-2]}, {written[-1]} and what they show beside them")
