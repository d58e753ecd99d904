"""The model card: what a model is, how it is used, what it was trained on, and how good it was measured to be."""

from __future__ import annotations

import html
import inspect
import json
import re
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from ..metrics import MEASURES, stages_of
from ..models.model import Model
from ..report.pages import render
from ..training import Run, TrainingError

__all__ = ["PICTURES", "metrics_of", "model_card", "name_of_data"]

#: What the metrics of every run have.
WRITTEN = ("data", "split", "images", "samples", "seed", "steps", "seconds", "device")
TEMPLATES = Path(__file__).parent / "templates"
#: The pictures of a run that are shown.
PICTURES = {
    "reconstructions.png": "Held-out images, and what the model makes of them",
    "samples.png": "Samples",
    "interpolation.png": "Between four held-out images",
}


def model_card(model: Model, repository: str, *, run: Run | None = None, licence: str = "mit") -> ModelCard:
    """Return the card of a model, with a snippet that loads it from its repository.

    Args:
        model: a trained model.
        repository: ``owner/name``.
        run: the run that it comes from; without one the card has no data, metrics and pictures.
        licence: of the weights, by the Hub's identifier.

    Example:
        >>> from feature_alignment.models import AE
        >>> card = model_card(AE((1, 8, 8), latent=4, channels=(4,), width=16), "me/small")
        >>> card.data.license, 'Model.from_pretrained("me/small")' in card.text
        ('mit', True)
    """
    metrics = metrics_of(run) if run is not None else {}
    settings = run.settings() if run is not None and run.config.is_file() else {}
    data = name_of_data(str(settings.get("data", {}).get("name", metrics.get("data", ""))))
    facts = ModelCardData(
        license=licence,
        library_name="feature-alignment",
        pipeline_tag="unconditional-image-generation",
        tags=["feature-alignment", type(model).__name__.lower(), "pytorch_model_hub_mixin", "model_hub_mixin"],
        datasets=[data.removeprefix("hf:")] if "/" in data else None,
        model_name=repository.rpartition("/")[2] or type(model).__name__,
        eval_results=_results(metrics, data) or None,
    )
    page = render(
        "card.md.j2",
        TEMPLATES,
        facts=facts,
        repository=repository or ".",
        model=model,
        kind=type(model).__name__,
        about=(inspect.getdoc(type(model)) or "").partition("\n")[0].replace("`", ""),
        own_class=None if type(model).__module__.startswith("feature_alignment.") else type(model).__module__,
        parameters=sum(each.numel() for each in model.parameters()),
        data=data,
        metrics=metrics,
        measures={name: measure for name, measure in MEASURES.items() if name in metrics},
        stages=stages_of(metrics),
        pictures={
            name: words for name, words in PICTURES.items() if run is not None and (run.directory / name).is_file()
        },
        command=bool(settings),
        shown_classes=html.escape(", ".join(model.class_names[:20])) + (", ..." if model.classes > 20 else ""),
        version=_version(run),
    )
    return ModelCard(page)


def metrics_of(run: Run) -> dict[str, Any]:
    """Return the metrics of a run, or none if it was not measured.

    Raises:
        TrainingError: they cannot be read, or lack what a run writes.
    """
    if not run.metrics.is_file():
        return {}
    metrics = run.results()
    if missing := [name for name in WRITTEN if name not in metrics]:
        raise TrainingError(f"{run.metrics}: not the metrics of a run (there is no {', '.join(missing)})")
    return metrics


def name_of_data(name: str) -> str:
    """Return the name of a data set, for others to read: of a path, its last part.

    Example:
        >>> name_of_data("mnist"), name_of_data("hf:owner/set"), name_of_data("/home/me/photos/")
        ('mnist', 'hf:owner/set', 'photos')
    """
    on_hub = name.startswith("hf:") or re.fullmatch(r"\w[\w.-]*/[\w.-]+", name)
    return name if on_hub and not Path(name).exists() else Path(name).name


def _results(metrics: dict[str, Any], data: str) -> list[EvalResult]:
    """Return the last stage's measures, in the Hub's own form."""
    stages = [stage for stage in stages_of(metrics) if stage != "reference"]
    return [
        EvalResult(
            task_type="unconditional-image-generation",
            dataset_type=data,
            dataset_name=data,
            dataset_split=metrics["split"],
            metric_type=name,
            metric_name=f"{measure.title}, {stage}",
            metric_value=metrics[name][stage],
        )
        for name, measure in MEASURES.items()
        for stage in stages[-1:]
        if stage in metrics.get(name, {})
    ]


def _version(run: Run | None) -> str:
    """Return the version of the library that trained the model, or this one."""
    from .. import __version__

    saved = run.directory / "config.json" if run is not None else None
    if saved is None or not saved.is_file():
        return __version__
    return str(json.loads(saved.read_text()).get("version", __version__))
