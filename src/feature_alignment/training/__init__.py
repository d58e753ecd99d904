"""Training a model into a run directory."""

from .loop import Run, TrainingError, TrainingOptions, fit

__all__ = ["Run", "TrainingError", "TrainingOptions", "fit"]
