"""The pre-image of an output under any given network."""

from .invert import SOLVERS, Inversion, invert

__all__ = ["SOLVERS", "Inversion", "invert"]
