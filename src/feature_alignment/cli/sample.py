"""``falign sample``: draw new images, by class if the model has classes."""

from __future__ import annotations

import math
from argparse import Namespace

from .errors import UsageError
from .outputs import beside, writable
from .parser import Parser, path
from .runs import existing_run, labels_of, model_of, run_parser, use_sampler

__all__ = ["parse", "parser", "run"]


def parser() -> Parser:
    """Return the parser of the command."""
    parser = run_parser("sample")
    parser.add_argument("--out", type=path, default="", help="picture to write (default: RUN/sample.png)")
    parser.add_argument(
        "--classes", nargs="+", default=[], help="classes, by name or number (default: all, at most 20)"
    )
    parser.add_argument("--rows", type=int, default=10, help="samples of each class (default: %(default)s)")
    parser.add_argument("--stress", type=float, default=1.0, help="above 1 emphasises the class (default: %(default)s)")
    parser.add_argument(
        "--temperature",
        type=float,
        default=1.0,
        help="of the latents; below 1 samples are more typical and differ less (default: %(default)s)",
    )
    parser.add_argument(
        "--sampler", help="of the latents: normal, gaussian, mixture, flow or best (default: the run's)"
    )
    return parser


def parse(arguments: list[str]) -> Namespace:
    """Parse the arguments of the command."""
    return parser().parse(arguments)


def run(options: Namespace) -> None:
    """Draw, and write a picture."""
    from ..report import sample_picture

    found = existing_run(options.run)
    model = model_of(found, options)
    use_sampler(model, options.sampler)
    if not 0 <= options.temperature < math.inf:
        raise UsageError(f"--temperature: expected a number of at least 0, got {options.temperature}")
    if not math.isfinite(options.stress):
        raise UsageError(f"--stress: expected a finite number, got {options.stress}")
    if options.stress != 1 and not model.classes:
        raise UsageError(f"--stress: emphasises a class; this {type(model).__name__} was trained without classes")
    if options.rows < 1:
        raise UsageError(f"--rows: expected at least 1, got {options.rows}")
    out = writable(options.out or beside(options.run, "sample.png"))
    columns = labels_of(model, options.classes).tolist() if options.classes else None
    sample_picture(
        model,
        model.class_names,
        out,
        rows=options.rows,
        columns=columns,
        stress=options.stress,
        temperature=options.temperature,
        seed=options.seed,
    )
    print(f"Wrote {out}")
