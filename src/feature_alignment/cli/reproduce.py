"""``falign reproduce``: reproduce the paper's tables and figures."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from .errors import UsageError
from .inception import add_inception, inception
from .outputs import refuse_within
from .parser import Parser, path, seed

__all__ = ["parse", "parser", "run"]

#: The target that is no table or figure of the paper, and the options that only it has.
QUALITY = "quality"
ONLY = ("part", "models", "latents", "updates")


class _Parser(Parser):
    def format_help(self) -> str:
        # Imported here: the registry imports everything that the figures need.
        from ..reproduce import TARGETS

        self.epilog = (
            f"targets: {', '.join(TARGETS)}, all; and quality, the comparison with rivals, which several processes may "
            "run at once and which continues where it was when it is started again"
        )
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
    parser.add_argument("--seeds", type=seed, nargs="+", default=[0, 1, 2], help="one training each (default: 0 1 2)")
    parser.add_argument("--out", type=path, default="", help="directory to write (default: reproduction/SCALE)")
    add_inception(parser)
    only = parser.add_argument_group("quality only")
    only.add_argument("--part", nargs="+", default=[], help="search, table, wall, betas, long (default: all)")
    only.add_argument("--models", nargs="+", default=[], help="names of those compared (default: all)")
    only.add_argument("--latents", type=int, nargs="+", default=[], help="sizes in the table (default: 16 64 128)")
    only.add_argument("--updates", type=int, help="of every training (default: 1500)")
    return parser


def parse(arguments: list[str]) -> Namespace:
    """Parse the arguments of the command."""
    return parser().parse(arguments)


def run(options: Namespace) -> None:
    """Make the table or figure, and the report on all results in the directory."""
    from ..data import folders_read
    from ..reproduce import TARGETS
    from ..training.stopping import Stopped

    if options.target not in (*TARGETS, "all", QUALITY):
        raise UsageError(f"target {options.target!r}: expected one of {', '.join(TARGETS)}, all, {QUALITY}")
    if len(set(options.seeds)) < len(options.seeds):
        raise UsageError(f"--seeds: expected different numbers of at least 0, got {' '.join(map(str, options.seeds))}")
    out = Path(options.out or f"reproduction/{options.scale}")
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out {out}: is a file, expected a directory")
    refuse_within("--out", out, folders_read(options.data))
    try:
        _reproduce(options, out)
    except Stopped as stopped:
        raise Stopped(f"{stopped}; the same command goes on from there", stopped.signal) from None


def _reproduce(options: Namespace, out: Path) -> None:
    """Run the target."""
    from ..reproduce import reproduce

    if options.target == QUALITY:
        _compare(options, out)
        return
    if alone := [f"--{name}" for name in ONLY if getattr(options, name) not in (None, [])]:
        raise UsageError(f"{', '.join(alone)}: for the target {QUALITY} only")
    written = reproduce(options.target, options.data or None, options.scale, options.seeds, out, inception(options))
    print(f"Wrote {written[-2]}, {written[-1]} and what they show beside them")


def _compare(options: Namespace, out: Path) -> None:
    """Run the comparison with rivals."""
    from ..reproduce.quality import PARTS, compare

    if options.fid == "yes" or options.inception_weights:
        raise UsageError(f"--fid, --inception-weights: {QUALITY} has the classifier FID")
    if options.scale == "paper":
        raise UsageError(f"--scale paper: {QUALITY} has the scales smoke and cpu")
    if unknown := [part for part in options.part if part not in PARTS]:
        raise UsageError(f"--part {unknown[0]}: expected some of {', '.join(PARTS)}")
    for name, values in {
        "latents": options.latents,
        "updates": [1 if options.updates is None else options.updates],
    }.items():
        if min(values, default=1) < 1:
            raise UsageError(f"--{name}: expected at least 1, got {min(values)}")
    written = compare(
        options.data or "mnist-mini",
        options.scale,
        options.seeds,
        out,
        parts=options.part or PARTS,
        models=options.models,
        latents=options.latents,
        updates=options.updates,
    )
    print(f"Wrote {', '.join(map(str, written))}")
