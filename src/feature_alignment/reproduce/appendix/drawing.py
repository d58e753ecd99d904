"""The three pictures of the study, drawn from its numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...report.charts import Line, plots
from .clamp import GAINS
from .weights import STARTS

__all__ = ["draw"]

#: Title of a panel to its lines by label.
Panels = dict[str, dict[str, list[Line]]]

BOUND_LABELS = {
    "none": "no bound",
    "entries": "entries clamped (hides the first where equal)",
    "spectral": "singular values bounded",
}


def draw(found: Mapping[str, Any], directory: Path) -> None:
    """Write ``appendix-a-features.png``, ``appendix-a-weights.png`` and ``appendix-a-clamp.png``."""
    plots(
        _features(found["features"]),
        directory / "appendix-a-features.png",
        title="Distance of the feature from its limit, relative to the start's",
        x_scale="log",
        marker=".",
    )
    plots(
        {_weights_title(name, layer): _weights(layer) for name, layer in found["weights"]["layers"].items()},
        directory / "appendix-a-weights.png",
        title="Orthogonality and error of one linear layer, trained by feature alignment",
        x_scale="symlog",
    )
    plots(
        {
            f"{name} ({layer['inputs']} to {layer['outputs']}), {unroll}": _clamp(layer, unroll)
            for name, layer in found["clamp"]["layers"].items()
            for unroll in ("T=1", "T=3")
        },
        directory / "appendix-a-clamp.png",
        title="Final error / empty image's, by the scale of the initial weights; above 1 the run failed",
        x_label="gain",
        marker="o",
    )


def _features(found: Mapping[str, Any]) -> Panels:
    scalar = found["scalar"]
    lines = {f"w = {name}": [(scalar["steps"], _plottable(line))] for name, line in scalar["distance"].items()}
    return {"one weight": lines} | {
        f"matrix, {name}": {
            f"step size {size}": [(shape["steps"], _plottable(line)) for line in run["distance"]]
            for size, run in shape["step_sizes"].items()
        }
        for name, shape in found["matrix"].items()
    }


def _weights_title(name: str, layer: Mapping[str, Any]) -> str:
    fewer = layer["outputs"] < layer["inputs"]
    least = f", least possible {layer['optimum'] / layer['blank']:.3f}" if fewer else ""
    return f"{name} ({layer['inputs']} to {layer['outputs']}){least}"


def _weights(layer: Mapping[str, Any]) -> dict[str, list[Line]]:
    key, product = ("rows", "W W^T") if layer["outputs"] < layer["inputs"] else ("columns", "W^T W")
    shown = ((key, f"deviation of {product} from I", 1.0), ("error", "error / empty image's", layer["blank"]))
    return {
        f"{label}, {start}": [
            (layer["steps"], _plottable([each / scale for each in line])) for line in layer[start][key]["history"]
        ]
        for start in STARTS
        for key, label, scale in shown
    }


def _clamp(layer: Mapping[str, Any], unroll: str) -> dict[str, list[Line]]:
    return {
        BOUND_LABELS[bound]: [
            (list(GAINS), _plottable([_ratio(cells[str(gain)]["error"]["per_seed"][seed], layer) for gain in GAINS]))
            for seed in range(len(cells["1"]["error"]["per_seed"]))
        ]
        for bound, cells in layer[unroll].items()
    }


def _ratio(error: float | None, layer: Mapping[str, Any]) -> float:
    return math.nan if error is None else error / layer["blank"]


def _plottable(line: Sequence[float | None]) -> list[float]:
    """Cut a line off at the rounding errors below and where it leaves the picture above."""
    return [math.nan if value is None or value > 1e12 else max(value, 1e-16) for value in line]
