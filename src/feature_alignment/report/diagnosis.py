"""The reversibility report: ``report.html``, ``layers.json`` and pictures of what each layer keeps of images."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import torch

from .. import __version__
from ..core.diagnosis import Layer
from ..diagnosis import Diagnosis
from ..files import write_atomically
from .diagnosis_pictures import embedded, information_chart, is_picture, strips
from .pages import data_uri, render

__all__ = ["write_diagnosis"]


def write_diagnosis(found: Diagnosis, directory: Path, against: Diagnosis | None = None) -> None:
    """Write the report of one network, or of two side by side; see :meth:`Diagnosis.save`.

    Files of an earlier report that this one does not have are removed.
    """
    if against is not None and not torch.equal(found.images.cpu(), against.images.cpu()):
        raise ValueError("against: was measured with other images; two networks are compared on the same")
    networks = [found] if against is None else [found, against]
    for name, has in (("against.json", against is not None), ("strips.png", is_picture(found.images))):
        if not has:
            (directory / name).unlink(missing_ok=True)
    for name, each in zip(("layers.json", "against.json"), networks, strict=False):
        write_atomically(directory / name, json.dumps([_entry(layer) for layer in each], indent=2) + "\n")
    chart = information_chart(networks, directory / "information.png")
    if is_picture(found.images):
        strips(networks, directory / "strips.png")
    write_atomically(directory / "report.html", _page(networks, chart))


def _entry(layer: Layer) -> dict[str, Any]:
    """Return the numbers of a layer for JSON, which has neither infinity nor not-a-number."""
    return {name: _finite(value) for name, value in layer.numbers().items()}


def _finite(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _page(networks: Sequence[Diagnosis], chart: bytes) -> str:
    first = networks[0]
    return render(
        "diagnosis.html.j2",
        title=" beside ".join(each.name for each in networks),
        facts=_facts(first),
        networks=networks,
        columns=list(zip_longest(*(each.layers for each in networks))),
        rows=_rows(networks) if is_picture(first.images) else [],
        pixelated=first.images.shape[-1] < 64,
        chart=data_uri(chart),
    )


def _rows(networks: Sequence[Diagnosis]) -> list[dict[str, Any]]:
    """Return for every image its picture, and for every network those of its layers, each with its information."""
    return [
        {
            "image": embedded(image),
            "strips": [
                [(embedded(layer.pre_images[place]), layer.information_by_image[place]) for layer in each]
                for each in networks
            ],
        }
        for place, image in enumerate(networks[0].images)
    ]


def _facts(found: Diagnosis) -> str:
    count, shape, options = len(found.images), " x ".join(map(str, found.images.shape[1:])), found.options
    kind = options.variables if isinstance(options.variables, str) else type(options.variables).__name__
    return (
        f"{count} image{'s' * (count > 1)} of {shape} numbers; pre-images in {kind} variables to a relative residual "
        f"of {options.tol:g}, at most {options.max_evaluations:,} evaluations each; seed {options.seed}; "
        f"feature-alignment {__version__}"
    )
