"""The pre-image of an output under any given network, in variables of one's choice."""

from .invert import SOLVERS, Inversion, invert
from .variables import VARIABLES, Bounded, Gaussian, Generative, Natural, Pixels, Variables

__all__ = [
    "SOLVERS",
    "VARIABLES",
    "Bounded",
    "Gaussian",
    "Generative",
    "Inversion",
    "Natural",
    "Pixels",
    "Variables",
    "invert",
]
