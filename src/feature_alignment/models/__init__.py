"""The paper's models. Every one can ``encode``, ``decode``, ``reconstruct``, ``sample``, save and load."""

from .base import Model
from .vfa import VFA, Posterior
from .vfa_gan import VFAGAN

__all__ = ["VFA", "VFAGAN", "Model", "Posterior"]
