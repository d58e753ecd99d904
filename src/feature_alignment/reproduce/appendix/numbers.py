"""Statistics over seeds, and conversion of numbers to JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean, median, stdev
from typing import Any

__all__ = ["finite", "summary"]


def summary(values: Sequence[float]) -> dict[str, Any]:
    """Return the values of the seeds, mean, sample standard deviation (None for one seed) and median."""
    return {
        "per_seed": list(values),
        "mean": fmean(values),
        "std": stdev(values) if len(values) > 1 and all(map(math.isfinite, values)) else None,
        "median": median(values),
    }


def finite(value: Any) -> Any:
    """Replace the numbers that JSON does not have by None, and NumPy's by Python's.

    Example:
        >>> finite({"a": [math.inf, 1.0], "b": (math.nan, 3)})
        {'a': [None, 1.0], 'b': [None, 3]}
    """
    if isinstance(value, Mapping):
        return {key: finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [finite(each) for each in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    return value
