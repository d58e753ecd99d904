"""Training a model into a run directory: the only room that knows the training library."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .options import Diverged, TrainingError, TrainingOptions
from .run import Run
from .stopping import Stopped

if TYPE_CHECKING:
    from .loop import fit

__all__ = ["Diverged", "Run", "Stopped", "TrainingError", "TrainingOptions", "fit"]


def __getattr__(name: str) -> Any:
    """Import the training library only when ``fit`` is used."""
    if name == "fit":
        from .loop import fit

        return fit
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
