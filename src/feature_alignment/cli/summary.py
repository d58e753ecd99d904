"""The summary printed after a training: metrics, files, and commands to try next."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .table import print_metrics

if TYPE_CHECKING:
    from ..training import Run

__all__ = ["print_summary"]

#: The files of a run directory that are for the user, and what they are.
FILES = {
    "report.html": "everything below on one page: open it in a browser",
    "reconstructions.png": "held-out images and what the model makes of them",
    "samples.png": "samples from the prior, a column for each class asked for",
    "interpolation.png": "between four held-out images",
    "metrics.json": "the numbers above and what they were measured on",
    "log.csv": "the losses; also as curves with: tensorboard --logdir {directory}",
    "config.yaml": "what was asked for",
    "model.safetensors": "the weights, with config.json; checkpoints/last.ckpt has the optimisers too",
}


def print_summary(run: Run) -> None:
    """Print the summary of a finished run."""
    metrics, directory = run.results(), run.directory
    minutes, seconds = divmod(round(metrics["seconds"]), 60)
    print(f"\nTrained {metrics['steps']:,} updates in {minutes} min {seconds} s.\n")
    print_metrics(metrics)
    print(f"\nIn {directory}:")
    for name, words in FILES.items():
        if (directory / name).exists():  # a picture may have been left out
            print(f"  {name:20} {words.format(directory=shlex.quote(str(directory)))}")
    model = run.model()
    _print_examples(directory, run.config, model.class_names[:2] if model.classes else ())


def _print_examples(directory: Path, config: Path, classes: Sequence[str]) -> None:
    falign, run = shlex.quote(_command()), shlex.quote(str(directory))
    print("\nTry next:")
    if classes:
        print(f"  {falign} sample {run} --classes {shlex.join(classes)} --stress 2 --out sample.png")
    print(f"  {falign} interpolate {run} --random --out interpolation.png")
    print(f"  {falign} reconstruct {run} my_image.png --out out.png    (--negative for ink on white paper)")
    print(f"  {falign} train --config {shlex.quote(str(config))} --model.latent 16 --out runs/latent-16")


def _command() -> str:
    """Return how to call ``falign`` from here: ``make quickstart`` installs it in .venv/bin, not on the path."""
    here = Path(sys.argv[0]).name == "falign" and not shutil.which("falign")
    return sys.argv[0] if here else "falign"
