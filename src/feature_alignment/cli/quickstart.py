"""``falign quickstart``: train on real digits for a few minutes and show everything."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from .parser import Parser, accelerator, path, seed

__all__ = ["parse", "parser", "run"]


def parser() -> Parser:
    """Return the parser of the command."""
    parser = Parser("quickstart")
    parser.add_argument(
        "--out", type=path, default="", help="run directory (default: runs/quickstart, or the next free)"
    )
    parser.add_argument("--resume", action="store_true", help="continue from the newest checkpoint in --out")
    parser.add_argument("--seed", type=seed, help="of initialisation, order of the images and noise (default: 0)")
    parser.add_argument("--device", help="cpu, cuda, mps, ... (default: the best there is)")
    parser.add_argument("--steps", type=int, help="train for fewer or more updates than the recipe")
    return parser


def parse(arguments: list[str]) -> Namespace:
    """Parse the arguments of the command."""
    return parser().parse(arguments)


def run(options: Namespace) -> None:
    """Train the recipe."""
    from . import train

    out = options.out or ("runs/quickstart" if options.resume else _next_free("runs/quickstart"))
    arguments = [f"--out={out}", "--resume" if options.resume else "--config=quickstart"]
    # One device: further processes would each look for the next free directory, and the recipe is for small batches.
    given = {"seed": options.seed, "steps": options.steps, "devices": 1, **accelerator(options.device or "auto")}
    arguments += [f"--training.{name}={value}" for name, value in given.items() if value is not None]
    train.run(train.parse(arguments))


def _next_free(name: str) -> str:
    out, number = name, 2
    while Path(out).exists():
        out, number = f"{name}-{number}", number + 1
    return out
