"""Appendix A: convergence of the features and of the weights, and the clamp."""

from __future__ import annotations

from typing import Any

from ..appendix import appendix_a
from ..result import Result, Table
from ..study import Study
from .target import Target

__all__ = ["APPENDIX_A"]

#: Updates of the study of the weights.
STEPS = {"smoke": 20, "cpu": 2000, "paper": 20_000}


def _make(study: Study) -> Result:
    found = appendix_a(study.directory, study.train.images(5000), study.seeds, STEPS[study.scale])
    rows: dict[str, list[Any]] = {f"{name}: {part['claim']}": [part["holds"]] for name, part in found.items()}
    return Result(
        "appendix-a",
        "convergence of the features and of the weights, and the clamp",
        "the features converge (equation 17), the weights become orthogonal, and weights beyond √2 are unstable.",
        Table(["measured"], rows),
        {f"appendix-a-{name}.png": name for name in found},
        numbers=found,
    )


APPENDIX_A = Target(_make)
