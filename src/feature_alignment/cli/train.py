"""``falign train``: train a model from a YAML file; any value can be overridden."""

from __future__ import annotations

from argparse import Namespace
from functools import reduce
from pathlib import Path

from .configuration import Configuration, class_of, combined, read, to_yaml
from .parser import Parser
from .runs import existing_run
from .training import train
from .typed import TypedOptions

__all__ = ["parse", "run"]


def parse(arguments: list[str]) -> Namespace:
    """Parse the arguments of the command."""
    first = _first()
    given, rest = first.parse_known_args(arguments)
    configurations: list[Configuration] = [read(name) for name in given.config]
    if given.resume:
        # The run's own configuration first, so that the options given now override it.
        configurations.insert(0, existing_run(given.out or "runs/train").settings())
    short = {name: value for name in ("compile", "precision") if (value := getattr(given, name)) is not None}
    configuration = reduce(combined, [*configurations, {"training": short}])
    name = given.model or configuration.get("model", {}).get("class_path")
    kind = class_of(name) if name else None
    typed = TypedOptions(kind)
    if given.help:
        print(f"{first.format_help()}\n{typed.format_help()}", end="")
        first.exit()
    if kind is None:
        first.error("the following arguments are required: model")
    sections = typed.parse(rest, configuration)
    if given.print_config:
        print(to_yaml(kind, sections), end="")
        first.exit()
    out = given.out or configuration.get("out", "runs/train")
    return Namespace(kind=kind, typed=typed, sections=sections, out=out, resume=given.resume)


def run(options: Namespace) -> None:
    """Train into a run directory, evaluate, and write a report."""
    train(options.kind, options.sections, options.typed, Path(options.out), resume=options.resume)


def _first() -> Parser:
    """Return the parser of the options that determine which typed options exist."""
    parser = Parser("train", add_help=False, epilog="With a model, its options too: falign train --model NAME --help")
    parser.add_argument("-h", "--help", action="store_true", help="show this help message and exit")
    parser.add_argument(
        "--config",
        action="append",
        default=[],
        help="YAML file, or the name of a bundled one: quickstart, vfa-gan, ...",
    )
    parser.add_argument(
        "--model",
        metavar="NAME",
        help="FA, VFA, VFAGAN, Local, AE, VAE, GAN or GON, or the import path of a class",
    )
    parser.add_argument("--out", help="run directory to write (default: runs/train)")
    parser.add_argument("--resume", action="store_true", help="continue from the newest checkpoint in --out")
    parser.add_argument("--compile", nargs="?", const="default", help="short for --training.compile")
    parser.add_argument("--precision", help="short for --training.precision")
    parser.add_argument("--print_config", action="store_true", help="print the configuration and exit")
    return parser
