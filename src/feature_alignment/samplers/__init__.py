"""Distributions from which the latents of samples are drawn.

To add one, write a file with a subclass of :class:`Sampler` and list it in :data:`SAMPLERS`; copy ``gaussian.py``.
"""

from .gaussian import Gaussian
from .normal import Normal
from .sampler import Sampler

__all__ = ["SAMPLERS", "Gaussian", "Normal", "Sampler"]

SAMPLERS: dict[str, type[Sampler]] = {"normal": Normal, "gaussian": Gaussian}
