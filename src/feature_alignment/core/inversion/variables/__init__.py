r"""Changes of variables :math:`r = \varphi(u)` in which a pre-image is sought; one file a kind."""

from __future__ import annotations

import difflib

from .base import Variables
from .gaussian import Gaussian
from .generative import Generative
from .natural import Natural
from .pixels import Bounded, Pixels

__all__ = ["VARIABLES", "Bounded", "Gaussian", "Generative", "Natural", "Pixels", "Variables", "as_variables"]

#: Kinds that need no more than their name; others are given as objects.
VARIABLES: dict[str, type[Variables]] = {"pixels": Pixels, "bounded": Bounded, "natural": Natural}


def as_variables(variables: str | Variables) -> Variables:
    """Return variables by name or as given; a TypeError or ValueError, with the nearest name, otherwise."""
    if isinstance(variables, str):
        if variables in VARIABLES:
            return VARIABLES[variables]()
        near = difflib.get_close_matches(variables, VARIABLES, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(
            f"variables: expected one of {', '.join(VARIABLES)}, or an object such as Variables.fit(images), "
            f"got {variables!r}{hint}"
        )
    if not (callable(getattr(variables, "forward", None)) and callable(getattr(variables, "inverse", None))):
        raise TypeError(
            f"variables: expected a name or an object with forward and inverse, got {type(variables).__name__}"
        )
    return variables
