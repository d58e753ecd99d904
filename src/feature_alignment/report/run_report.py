"""What a finished run shows: pictures, ``metrics.json`` and ``report.html``."""

from __future__ import annotations

import base64
import html
import json
import subprocess
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .. import __version__
from ..data import Images
from ..metrics import MEASURES, Inception, evaluate, stages_of
from ..models.model import Model, inference
from ..training import Run
from . import pictures as figures

__all__ = ["commit", "interpolation_picture", "one_of_each", "reconstruction_picture", "sample_picture", "write_report"]

#: Most classes that get a column of samples each.
MAX_COLUMNS = 20


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
    """Measure a trained model on held-out images and write every picture, ``metrics.json`` and ``report.html``.

    Args:
        run: whose directory to write into.
        model: trained.
        train, test: the splits of its data set.
        training: what :func:`feature_alignment.training.fit` returned; becomes part of ``metrics.json``.
        seed: of the samples.
        limit, inception: as for :func:`feature_alignment.metrics.evaluate`.
    """
    directory = run.directory
    metrics = evaluate(model, train, test, seed=seed, limit=limit, inception=inception)
    metrics |= training | {"model": type(model).__name__, "version": __version__, "commit": commit()}
    run.metrics.write_text(json.dumps(metrics, indent=2) + "\n")

    images, labels = one_of_each(test, 20)
    title = "held-out images and their reconstructions"
    reconstruction_picture(model, images, labels, directory / "reconstructions.png", title=title)
    sample_picture(model, test.classes, directory / "samples.png", seed=seed)
    corners, labels = one_of_each(test, 4)
    interpolation_picture(
        model,
        model.encode(corners),
        labels if model.classes else None,
        directory / "interpolation.png",
        title="between four held-out images",
    )
    rows = run.rows()
    names = [name for name in dict.fromkeys(name for row in rows for name in row) if name not in ("epoch", "step")]
    lines = {
        name: ([row["step"] for row in rows if name in row], [row[name] for row in rows if name in row])
        for name in names
    }
    if lines:
        figures.curves(lines, directory / "losses.png", title="training losses")
    (directory / "report.html").write_text(_page(run, metrics))


def one_of_each(images: Images, count: int) -> tuple[Tensor, Tensor | None]:
    """Return ``count`` images spread evenly over the split, whose images are ordered by class or mixed."""
    order = torch.arange(len(images)) if images.labels is None else images.labels.argsort(stable=True)
    chosen = order[torch.linspace(0, len(images) - 1, min(count, len(images))).round().long()]
    pixels, labels = images.__getitems__(chosen.tolist())
    return pixels.float() / 255, labels


def reconstruction_picture(
    model: Model, images: Tensor, labels: Tensor | None, path: Path, *, title: str = "reconstructions"
) -> None:
    """Write originals, what the model decodes and, where it can, refined images under each other.

    Args:
        model: any model.
        images: shape ``(N, C, H, W)``.
        labels: their classes, or none; a conditional model infers them where there are none.
        path: of the PNG.
        title: above it.
    """
    if not model.classes:
        labels = None
    elif labels is None:
        labels = model.infer_labels(images)
    decoded = model.reconstruct(images, labels)
    versions = {"original": images, model.stage: decoded}
    if model.refiner is not None:
        versions["refined"] = model.refine(decoded, labels)
    figures.pairs(versions, path, title=title)


@inference
def _samples(model: Model, count: int, labels: Tensor | None, stress: float, seed: int) -> Tensor:
    images = model.sample(count, labels, stress, torch.Generator().manual_seed(seed))
    return images if model.refiner is None else model.refine(images, labels)


def sample_picture(
    model: Model,
    classes: tuple[str, ...],
    path: Path,
    *,
    rows: int = 10,
    columns: list[int] | None = None,
    stress: float = 1.0,
    seed: int = 0,
) -> None:
    """Write samples from the prior, refined if the model can; a column a class if it is conditional.

    Args:
        model: any model.
        classes: names of its classes.
        path: of the PNG.
        rows: samples of each class.
        columns: the classes to show; by default all, at most 20.
        stress: value of the one-hot vector's one.
        seed: of the latents.
    """
    if model.classes:
        columns = columns or list(range(min(model.classes, MAX_COLUMNS)))
        labels: Tensor | None = torch.tensor(columns).repeat(rows)
        names = [classes[each] if each < len(classes) else str(each) for each in columns]
    else:
        columns, labels, names = list(range(10)), None, []
    images = _samples(model, rows * len(columns), labels, stress, seed)
    title = "samples, by the class asked for" if names else "samples"
    figures.grid(images.unflatten(0, (rows, len(columns))), path, title=title, columns=names)


def interpolation_picture(
    model: Model, latent: Tensor, labels: Tensor | None, path: Path, *, title: str, size: int = 11
) -> None:
    """Write a square of images between four corners.

    Args:
        model: any model.
        latent: of the corners, shape ``(4, latent)``: top left, top right, bottom left, bottom right.
        labels: their classes, shape ``(4,)``; needed exactly by a conditional model.
        path: of the PNG.
        title: above it.
        size: images along each side.
    """
    figures.grid(model.interpolate(latent, labels, size), path, title=title, gap=0)


def commit() -> str | None:
    """Return the commit of the source, where it is a checkout."""
    try:
        done = subprocess.run(
            ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
img { max-width: 100%; height: auto; image-rendering: auto }
table { border-collapse: collapse } td, th { padding: .25rem .9rem; border-bottom: 1px solid #ddd; text-align: left }
td.number { text-align: right; font-variant-numeric: tabular-nums }
pre { background: #f6f6f6; padding: 1rem; overflow-x: auto; font-size: 13px }
"""

PICTURES = {
    "reconstructions.png": "Held-out images, never trained on: the original, what the model decodes from its latent "
    "(a feature is the encoder run backwards) and, if there is a refiner, what that makes of it.",
    "samples.png": "Samples from the prior.",
    "interpolation.png": "Latents between those of four held-out images.",
    "losses.png": "Losses during training.",
}


def _page(run: Run, metrics: dict[str, Any]) -> str:
    stages = stages_of(metrics)
    lines = []
    for name, measure in MEASURES.items():
        if name in metrics:
            numbers = "".join(
                f'<td class="number">{metrics[name][stage]:.3g}</td>' if stage in metrics[name] else "<td></td>"
                for stage in stages
            )
            words = f"{measure.title}: {measure.meaning} ({measure.better} is better)"
            lines.append(f"<tr><td>{words}</td>{numbers}<td>{measure.reference}</td></tr>")
    heads = "".join(f"<th>{stage}</th>" for stage in stages)
    notes = "".join(f"<p>{html.escape(f'{name}: {words}')}</p>\n" for name, words in metrics.get("notes", {}).items())
    facts = (
        f"{metrics['model']} on {metrics['data']}: {metrics['steps']} steps in {metrics['seconds']:.0f} s on "
        f"{metrics['device']}; {metrics['images']} held-out images, {metrics['samples']} samples, "
        f"seed {metrics['seed']}; feature-alignment {metrics['version']}"
        + (f", commit {metrics['commit'][:10]}" if metrics["commit"] else "")
    )
    pictures = ""
    for name, words in PICTURES.items():
        path = run.directory / name
        if path.is_file():
            data = base64.b64encode(path.read_bytes()).decode()  # within the page, so that it can be sent as one file
            pictures += f'<h2>{name}</h2><p>{words}</p><img alt="{name}" src="data:image/png;base64,{data}">\n'
    config = html.escape(run.config.read_text()) if run.config.is_file() else ""
    return f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{html.escape(run.directory.name)}</title><style>{STYLE}</style>
<h1>{html.escape(run.directory.name)}</h1>
<p>{html.escape(facts)}</p>
<h2>metrics.json</h2>
<table><tr><th>measure</th>{heads}<th>what the reference is</th></tr>{"".join(lines)}</table>
{notes}{pictures}<h2>config.yaml</h2><pre>{config}</pre>
</html>
"""
