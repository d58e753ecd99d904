"""Approximately reversible neural networks by feature alignment.

The names below are imported lazily, on first use. Models, data, metrics and reports are modules of their own:
``feature_alignment.models``, ``feature_alignment.data``, ...
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .core.alignment import DivergenceWarning, align, input_gradient
    from .core.inversion import Generative, Inversion, Natural, Variables, invert, maximise
    from .core.layered_start import LayeredStart
    from .core.linearization import affine_map, largest_singular_value
    from .core.pullback import NotDifferentiableError
    from .core.select import select
    from .diagnosis import Diagnosis, diagnose

__version__ = "0.2.0"

__all__ = [
    "Diagnosis",
    "DivergenceWarning",
    "Generative",
    "Inversion",
    "LayeredStart",
    "Natural",
    "NotDifferentiableError",
    "Variables",
    "__version__",
    "affine_map",
    "align",
    "diagnose",
    "input_gradient",
    "invert",
    "largest_singular_value",
    "maximise",
    "select",
]

#: The module of each public name.
_MODULES = {
    "Diagnosis": "diagnosis",
    "DivergenceWarning": "core.alignment",
    "Generative": "core.inversion",
    "Inversion": "core.inversion",
    "LayeredStart": "core.layered_start",
    "Natural": "core.inversion",
    "NotDifferentiableError": "core.pullback",
    "Variables": "core.inversion",
    "affine_map": "core.linearization",
    "align": "core.alignment",
    "diagnose": "diagnosis",
    "input_gradient": "core.alignment",
    "invert": "core.inversion",
    "largest_singular_value": "core.linearization",
    "maximise": "core.inversion",
    "select": "core.select",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(importlib.import_module(f".{_MODULES[name]}", __name__), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
