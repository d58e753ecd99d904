"""The paper's tables and figures, reproduced: ``falign reproduce TARGET``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..metrics import Inception
from .page import write_pages, write_result
from .result import Result, Table
from .settings import PAPER_SETS, SCALES, Scale
from .study import Study
from .targets import TARGETS, Target, targets_of

__all__ = ["PAPER_SETS", "SCALES", "TARGETS", "Result", "Study", "Table", "Target", "reproduce"]


def reproduce(
    target: str, data: str | None, scale: Scale, seeds: Sequence[int], out: Path, inception: Inception | None = None
) -> list[Path]:
    """Make one table or figure, or ``all`` of them, and the report of everything under ``out``.

    Trainings that are there are used; one that was interrupted goes on from its last checkpoint.

    Args:
        target: a name in :data:`TARGETS`, or ``all``: those that the paper has for this kind of data set.
        data: name of a data set or a folder; by default the paper's own, or for ``all`` all three of these.
        scale: ``smoke``, ``cpu`` or ``paper``.
        seeds: of the trainings.
        out: directory to write into.
        inception: gives FID and KID.

    Returns:
        Paths of the JSON files written, and of ``report.html`` and ``report.md``.

    Raises:
        DataError: a data set cannot be loaded, or does not suit the target.
        TrainingError: a training cannot go on.
    """
    like = None if target == "all" else TARGETS[target].like
    default = list(PAPER_SETS.values()) if target == "all" else [PAPER_SETS[like or "MNIST"]]
    written = []
    for name in default if data is None else [data]:
        study = Study(name, scale, seeds, out, inception)
        for each in targets_of(study) if target == "all" else [target]:
            written.append(write_result(study, TARGETS[each].make(study), TARGETS[each].models))
            print(f"{each}: {written[-1]}", flush=True)
    return written + write_pages(out)
