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
    """Reproduce one table or figure, or ``all`` of them, and write the report on all results in ``out``.

    Finished trainings in ``out`` are reused; an interrupted one continues from its last checkpoint.

    Args:
        target: a name in :data:`TARGETS`, or ``all``: those that the paper has for this kind of data set.
        data: name of a data set or a folder; by default the paper's own, or all three of its sets for ``all``.
        scale: ``smoke``, ``cpu`` or ``paper``.
        seeds: of the trainings.
        out: directory to write into.
        inception: feature extractor of FID and KID; none leaves them out.

    Returns:
        Paths of the JSON files written, and of ``report.html`` and ``report.md``.

    Raises:
        DataError: a data set cannot be loaded, or is unsuitable for the target.
        TrainingError: a training cannot continue.
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
