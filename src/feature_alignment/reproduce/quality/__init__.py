"""The comparison with rivals: one search for all, one table per data set. ``falign reproduce quality``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .comparison import PARTS, Comparison, Part
from .page import write_quality
from .settings import QualityScale

__all__ = ["PARTS", "Comparison", "Part", "compare"]


def compare(
    data: str,
    scale: QualityScale,
    seeds: Sequence[int],
    out: Path,
    *,
    parts: Sequence[Part] = PARTS,
    models: Sequence[str] = (),
    latents: Sequence[int] = (),
    updates: int | None = None,
) -> list[Path]:
    """Compare models on a data set, and write ``quality.json`` and ``quality.md``.

    Every training has a JSON of its own, is skipped when that is there, and continues from its last checkpoint after
    the process was killed. Several processes may run the same command: each training belongs to one of them.

    Args:
        data: name of a data set or a folder.
        scale: ``cpu``, or ``smoke`` to see that everything runs.
        seeds: of the trainings in the table.
        out: directory to write into.
        parts: ``search``; ``table``, all sizes and seeds; ``wall``, models that reconstruct
            in the time of the autoencoder; ``betas``, the variational models at other weights of the
            KL divergence; ``long``, one seed with more updates. Every part begins with the search.
        models: names of those compared; by default all that this version has.
        latents: sizes in the table; by default the settings'.
        updates: of every training; by default the settings'.

    Returns:
        The paths of the files written.

    Raises:
        DataError: the data set cannot be loaded.
        TrainingError: an unknown model, or trainings in ``out`` with other settings.
    """
    study = Comparison(data, scale, seeds, out, models, latents, updates)
    study.work(parts)
    return write_quality(study)
