"""``falign train``: train a model from a YAML file; any value can be overridden."""

from __future__ import annotations

from argparse import Namespace
from functools import reduce
from pathlib import Path

from .configuration import Configuration, bundled, class_of, combined, model_names, read, to_yaml
from .errors import UsageError
from .parser import Parser, accelerator, path, seed
from .runs import existing_run
from .training import train
from .typed import TypedOptions

__all__ = ["parse", "parser", "run"]

#: Options of the training that have a short name.
SHORT = {"compile": "compile", "precision": "precision", "device": "accelerator", "seed": "seed"}


def parse(arguments: list[str]) -> Namespace:
    """Parse the arguments of the command."""
    first = _first()
    given, rest = first.parse_known_args(arguments)
    configurations: list[Configuration] = [read(name) for name in given.config]
    named = next((each["out"] for each in reversed(configurations) if "out" in each), "")
    out = path(given.out or named or "runs/train")
    if given.resume and _started(out, given):
        # The run's own configuration first, so that the options given now override it.
        configurations.insert(0, existing_run(out, local=True).settings())
    short = {option: value for name, option in SHORT.items() if (value := getattr(given, name)) is not None}
    for name, option in SHORT.items():
        if option in short and any(each.partition("=")[0] == f"--training.{option}" for each in rest):
            raise UsageError(f"--{name} and --training.{option}: expected one of them")
    if given.device is not None:
        short |= accelerator(given.device)
    configuration = reduce(combined, [*configurations, {"training": short}])
    name = given.model or configuration.get("model", {}).get("class_path")
    kind = class_of(name) if name else None
    typed = TypedOptions(kind, first)
    if given.help:
        print(f"{first.format_help()}\n{typed.format_help()}", end="")
        first.exit()
    if kind is None:
        unknown = [option for option in rest if option.startswith("-") and "." not in option]
        first.error(f"unrecognized arguments: {unknown[0]}" if unknown else _without_model(given, Path(out)))
    sections = typed.parse(rest, configuration)
    sections.data.name = _plainly_local(path(sections.data.name))
    if given.print_config:
        print(to_yaml(kind, sections), end="")
        first.exit()
    return Namespace(kind=kind, typed=typed, sections=sections, out=out, resume=given.resume)


def _without_model(given: Namespace, out: Path) -> str:
    """Say why it is not known which model to train."""
    config = out / "config.yaml"
    if given.config:
        return f"--config {' '.join(given.config)}: names no model; give --model NAME"
    if given.resume:
        return f"{config}: names no model; give --model NAME"
    there = f"; --resume goes on with the run {out}" if config.is_file() else ""
    return f"expected --config NAME or --model NAME{there}"


def _plainly_local(name: str) -> str:
    """Return the path of a folder here so that it is no name on the Hub for those who read of the run elsewhere."""
    return f"./{name}" if "/" in name and not Path(name).is_absolute() and Path(name).exists() else name


def run(options: Namespace) -> None:
    """Train into a run directory, evaluate, and write a report."""
    train(options.kind, options.sections, options.typed, Path(options.out), resume=options.resume)


def _started(out: str, given: Namespace) -> bool:
    """Whether there is a run to resume; if not, a model that is named is trained from the beginning."""
    return (Path(out) / "config.yaml").is_file() or not (given.config or given.model)


def parser() -> Parser:
    """Return a parser of all options of the command, for completion: those of every bundled model."""
    found = _first()
    for kind in map(class_of, model_names()):
        for option in TypedOptions(kind).flags():
            if option not in found._option_string_actions:
                found.add_argument(option)
    found._option_string_actions["--model"].choices = model_names()
    found._option_string_actions["--config"].choices = bundled()
    return found


def _first() -> Parser:
    """Return the parser of the options that determine which typed options exist."""
    parser = Parser("train", add_help=False, epilog="With a model, its options too: falign train --model NAME --help")
    parser.add_argument("-h", "--help", action="store_true", help="show this help message and exit")
    parser.add_argument(
        "--config",
        action="append",
        type=path,
        default=[],
        help="YAML file, or the name of a bundled one: quickstart, vfa-gan, ...",
    )
    parser.add_argument(
        "--model",
        metavar="NAME",
        help="FA, VFA, VFAGAN, Local, AE, VAE, GAN or GON, or the import path of a class",
    )
    parser.add_argument("--out", type=path, help="run directory to write (default: runs/train)")
    parser.add_argument("--resume", action="store_true", help="continue from the newest checkpoint in --out")
    parser.add_argument("--compile", nargs="?", const="default", help="short for --training.compile")
    parser.add_argument("--precision", help="short for --training.precision")
    parser.add_argument("--device", help="short for --training.accelerator: cpu, cuda, mps, ...")
    parser.add_argument("--seed", type=seed, help="short for --training.seed")
    parser.add_argument("--print_config", action="store_true", help="print the configuration and exit")
    return parser
