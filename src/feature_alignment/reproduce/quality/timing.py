"""The time of an update, beside the autoencoder's, for the comparison at equal wall time."""

from __future__ import annotations

import statistics
import time
from typing import Any

import torch

from ...models import Updates
from .splits import Split
from .trial import built

__all__ = ["timed"]

#: Updates of each model before the first that is timed, and those that are timed.
BEFORE, TIMED = 3, 15


def timed(settings: dict[str, Any], baseline: dict[str, Any], split: Split) -> dict[str, Any]:
    """Return the median seconds of an update of a model and of the baseline, which take turns, and their ratio.

    They take turns so that whatever else the machine is doing slows both; it is the ratio that is used.
    """
    runs = []
    for each in (settings, baseline):
        model, data = built(each, split)
        runs.append((Updates(model, BEFORE + TIMED), data.batches(each["seed"])))
    seconds: list[list[float]] = [[], []]
    for update in range(BEFORE + TIMED):
        for (updates, batches), taken in zip(runs, seconds, strict=True):
            batch = batches.batch(update)
            since = time.perf_counter()
            updates.step(*batch)
            taken.append(time.perf_counter() - since)
    own, other = (statistics.median(each[BEFORE:]) for each in seconds)
    return {
        "seconds": own,
        "baseline_seconds": other,
        "ratio": own / other,
        "device": f"cpu, {torch.get_num_threads()} threads",
    }
