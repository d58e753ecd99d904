"""Approximately reversible neural networks by feature alignment.

Importing this package needs torch and nothing heavier; models, data and figures are imported by name
(``feature_alignment.models``, ``feature_alignment.data``, ...).
"""

from .core.alignment import DivergenceWarning, align, input_gradient
from .core.inversion import Inversion, invert
from .core.linearization import affine_map, largest_singular_value

__version__ = "0.1.0"

__all__ = [
    "DivergenceWarning",
    "Inversion",
    "__version__",
    "affine_map",
    "align",
    "input_gradient",
    "invert",
    "largest_singular_value",
]
