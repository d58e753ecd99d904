"""Distributions from which the latents of samples are drawn.

To add one, write a file with a subclass of :class:`Sampler` and list it in :data:`SAMPLERS`; copy ``gaussian.py``.
"""

from .flow import Flow
from .gaussian import Gaussian
from .mixture import Mixture
from .normal import Normal
from .sampler import Sampler

__all__ = ["SAMPLERS", "Flow", "Gaussian", "Mixture", "Normal", "Sampler"]

SAMPLERS: dict[str, type[Sampler]] = {"normal": Normal, "gaussian": Gaussian, "mixture": Mixture, "flow": Flow}
