"""The pre-image of an output under any given network, in variables of one's choice."""

from .invert import SOLVERS, Inversion, invert
from .maximise import Maximum, maximise
from .variables import VARIABLES, Bounded, Gaussian, Generative, Natural, Pixels, Variables

__all__ = [
    "SOLVERS",
    "VARIABLES",
    "Bounded",
    "Gaussian",
    "Generative",
    "Inversion",
    "Maximum",
    "Natural",
    "Pixels",
    "Variables",
    "invert",
    "maximise",
]
