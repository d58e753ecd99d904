"""Where the latents of samples come from.

A new sampler is a file with a subclass of :class:`Sampler` and an entry in :data:`SAMPLERS`.
"""

from .gaussian import Gaussian
from .normal import Normal
from .sampler import Sampler

__all__ = ["SAMPLERS", "Gaussian", "Normal", "Sampler"]

SAMPLERS: dict[str, type[Sampler]] = {"normal": Normal, "gaussian": Gaussian}
