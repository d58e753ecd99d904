"""Approximately reversible neural networks by feature alignment.

Importing this package needs torch and nothing heavier; models, data and figures are imported by name
(``feature_alignment.models``, ``feature_alignment.data``, ...).
"""

from .alignment import DivergenceWarning, align, input_gradient

__version__ = "0.1.0"

__all__ = ["DivergenceWarning", "__version__", "align", "input_gradient"]
