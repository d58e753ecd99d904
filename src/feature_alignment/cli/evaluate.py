"""``falign evaluate``: measure a trained model on held-out images."""

from __future__ import annotations

import json
from argparse import Namespace

from ..files import write_atomically
from .errors import UsageError
from .inception import add_inception, inception
from .outputs import beside, refuse_overwriting, writable
from .parser import Parser, path
from .runs import check_suits, data_of, existing_run, model_of, run_parser, use_sampler
from .table import print_metrics

__all__ = ["parse", "parser", "run"]


def parser() -> Parser:
    """Return the parser of the command."""
    parser = run_parser("evaluate")
    parser.add_argument("--data", type=path, default="", help="another data set or folder than the run's own")
    parser.add_argument("--limit", type=int, help="measure on only so many held-out images, evenly spread")
    add_inception(parser)
    parser.add_argument("--out", type=path, default="", help="JSON file to write (default: RUN/evaluation.json)")
    parser.add_argument(
        "--sampler", help="of the latents: normal, gaussian, mixture, flow or best (default: the run's)"
    )
    return parser


def parse(arguments: list[str]) -> Namespace:
    """Parse the arguments of the command."""
    return parser().parse(arguments)


def run(options: Namespace) -> None:
    """Measure, print and write."""
    from ..metrics import evaluate

    found = existing_run(options.run)
    model = model_of(found, options)
    use_sampler(model, options.sampler)
    if options.limit is not None and options.limit < 2:
        raise UsageError(f"--limit: expected at least 2, got {options.limit}")
    out = writable(options.out or beside(options.run, "evaluation.json"), (".json",))
    refuse_overwriting("--out", out, [out], [found.directory / "config.json", found.metrics])
    train, test = (data_of(found, model, split, options.data) for split in ("train", "test"))
    check_suits(model, test)
    metrics = evaluate(model, train, test, seed=options.seed, limit=options.limit, inception=inception(options))
    print_metrics(metrics)
    write_atomically(out, json.dumps(metrics, indent=2) + "\n")
    print(f"Wrote {out}")
