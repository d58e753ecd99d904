"""The report of a finished run: pictures, ``metrics.json`` and ``report.html``."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from .. import __version__
from ..data import Images
from ..extras import require
from ..files import write_atomically
from ..metrics import MEASURES, Inception, evaluate, stages_of
from ..models.model import Model
from ..training import Run
from . import charts
from .pages import data_uri, render
from .pictures import interpolation_picture, one_of_each, reconstruction_picture, sample_picture
from .provenance import commit

__all__ = ["write_report"]

# At import, so that a missing library is reported before a training and not after it.
require("torchmetrics", "train", "the measures of a report")

#: The pictures of a run, in the order shown, with their captions.
PICTURES = {
    "reconstructions.png": "Held-out images, never trained on: the original, the image decoded from its latent (a "
    "feature is the encoder run backwards) and, if the model has a refiner, the refined image.",
    "samples.png": "Samples: latents drawn by the model's sampler, decoded.",
    "interpolation.png": "Latents between those of four held-out images.",
    "losses.png": "Losses during training.",
}


def write_report(
    run: Run,
    model: Model,
    train: Images,
    test: Images,
    training: dict[str, Any],
    seed: int,
    limit: int | None = None,
    inception: Inception | None = None,
) -> None:
    """Measure a trained model on held-out images and write all pictures, ``metrics.json`` and ``report.html``.

    Args:
        run: the run, into whose directory the files are written.
        model: the trained model.
        train, test: the splits of its data set.
        training: the result of :func:`feature_alignment.training.fit`, or what was in ``metrics.json`` before, which is
            added to it where it is not measured.
        seed: of the samples.
        limit, inception: as for :func:`feature_alignment.metrics.evaluate`.
    """
    metrics = evaluate(model, train, test, seed=seed, limit=limit, inception=inception)
    metrics |= {name: value for name, value in training.items() if name not in metrics}
    metrics |= {"model": type(model).__name__, "version": __version__, "commit": commit()}
    write_atomically(run.metrics, json.dumps(metrics, indent=2) + "\n")
    torch.manual_seed(seed)  # a start of noise draws from the global generator, which has a past
    _draw(run, model, test, seed)
    write_atomically(run.report, _page(run, metrics))  # last: it marks the run as complete


def _draw(run: Run, model: Model, test: Images, seed: int) -> None:
    """Draw every picture that can be drawn; warn of the others, which are no reason to lose the report."""
    draw: dict[str, Callable[[Path], object]] = {
        "reconstructions.png": lambda path: _reconstructions(model, test, path),
        "samples.png": lambda path: sample_picture(model, test.classes, path, seed=seed),
        "interpolation.png": lambda path: _interpolation(model, test, path),
        "losses.png": lambda path: _curves(run, path),
    }
    for name, draw_one in draw.items():
        path = run.directory / name
        path.unlink(missing_ok=True)  # of an earlier part of the run
        try:
            draw_one(path)
        except OSError:
            raise
        except Exception as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            warnings.warn(f"{name}: left out of the report: {reason}", stacklevel=2)


def _reconstructions(model: Model, test: Images, path: Path) -> None:
    images, labels = one_of_each(test, 20)
    title = "held-out images and their reconstructions"
    reconstruction_picture(model, images, labels, path, title=title)


def _interpolation(model: Model, test: Images, path: Path) -> None:
    corners, labels = one_of_each(test, 4)
    if len(corners) < 4:
        raise ValueError(f"it needs 4 held-out images, there are {len(corners)}")
    given = labels if model.classes else None
    title = "between four held-out images"
    interpolation_picture(model, model.encode(corners, given), given, path, title=title)


def _curves(run: Run, path: Path) -> None:
    lines = _losses(run)
    if not lines:
        raise ValueError(f"{run.log.name} has no line")
    charts.curves(lines, path, title="training losses")


def _losses(run: Run) -> dict[str, charts.Line]:
    rows = run.rows()
    names = [name for name in dict.fromkeys(name for row in rows for name in row) if name not in ("epoch", "step")]
    return {
        name: ([row["step"] for row in rows if name in row], [row[name] for row in rows if name in row])
        for name in names
    }


def _page(run: Run, metrics: dict[str, Any]) -> str:
    pictures = [
        (name, words, data_uri((run.directory / name).read_bytes()))
        for name, words in PICTURES.items()
        if (run.directory / name).is_file()
    ]
    return render(
        "run.html.j2",
        title=run.directory.name,
        facts=_facts(metrics),
        stages=stages_of(metrics),
        measures=MEASURES,
        metrics=metrics,
        pictures=pictures,
        config=run.config.read_text() if run.config.is_file() else "",
    )


def _facts(metrics: dict[str, Any]) -> str:
    return (
        f"{metrics['model']} on {metrics['data']}: {metrics['steps']} steps in {metrics['seconds']:.0f} s on "
        f"{metrics['device']}; {metrics['images']} held-out images, {metrics['samples']} samples, "
        f"seed {metrics['seed']}; feature-alignment {metrics['version']}"
        + (f", commit {metrics['commit'][:10]}" if metrics["commit"] else "")
    )
