"""The paper's tables and figures, a file each or a file a family.

A new one is a function from a study to a result, as a :class:`Target` in a file of its own, and its line in
:data:`TARGETS`; copy ``errors.py``.
"""

from __future__ import annotations

from ..study import Study
from .appendix_a import APPENDIX_A
from .errors import FIGURE_12
from .latent_plane import FIGURE_5A
from .local import FIGURE_13, FIGURE_14, FIGURE_15
from .one_latent import FIGURE_5B
from .reconstructions import FIGURE_6, FIGURE_8, FIGURE_10
from .samples import FIGURE_7, FIGURE_9, FIGURE_11
from .table_1 import PAPER_TABLE_1, TABLE_1
from .target import Target

__all__ = ["PAPER_TABLE_1", "TARGETS", "Target", "targets_of"]

TARGETS: dict[str, Target] = {
    "table1": TABLE_1,
    "fig5a": FIGURE_5A,
    "fig5b": FIGURE_5B,
    "fig6": FIGURE_6,
    "fig7": FIGURE_7,
    "fig8": FIGURE_8,
    "fig9": FIGURE_9,
    "fig10": FIGURE_10,
    "fig11": FIGURE_11,
    "fig12": FIGURE_12,
    "fig13": FIGURE_13,
    "fig14": FIGURE_14,
    "fig15": FIGURE_15,
    "appendix-a": APPENDIX_A,
}


def targets_of(study: Study) -> list[str]:
    """Return the targets that the paper has for the data set that the study's is compared with."""
    names = [name for name, target in TARGETS.items() if target.like in (None, study.like)]
    return names if study.train.classes else [name for name in names if name != "fig5b"]
