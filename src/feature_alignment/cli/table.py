"""The numbers of an evaluation, as a table for a terminal."""

from __future__ import annotations

from typing import Any

__all__ = ["print_metrics"]


def print_metrics(metrics: dict[str, Any]) -> None:
    """Print the result of :func:`feature_alignment.metrics.evaluate`, one line per measure."""
    from ..metrics import MEASURES, stages_of

    stages = stages_of(metrics)
    count = f"{metrics['images']} {metrics['split']} images of {metrics['data']}"
    print(f"{count:38}{'better':>8}" + "".join(f"{stage:>12}" for stage in stages))
    for name, measure in MEASURES.items():
        if name in metrics:
            numbers = [f"{metrics[name][stage]:12.3g}" if stage in metrics[name] else " " * 12 for stage in stages]
            print(f"{measure.title:38}{measure.better:>8}" + "".join(numbers).rstrip())
    print("(reference: the mean image; real training images; the classifier on held-out images)")
    for name, words in metrics.get("notes", {}).items():
        print(f"({name}: {words})")
