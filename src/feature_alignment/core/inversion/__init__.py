"""The pre-image of an output under any given network."""

from .solvers import Inversion, invert

__all__ = ["Inversion", "invert"]
