"""The paper's models. Every one can ``encode``, ``decode``, ``reconstruct``, ``sample``, save and load."""

from .ae import AE
from .base import Model
from .fa import FA
from .gan import GAN
from .local import Local
from .vae import VAE
from .variational import Posterior
from .vfa import VFA
from .vfa_gan import VFAGAN

__all__ = ["AE", "FA", "GAN", "VAE", "VFA", "VFAGAN", "Local", "Model", "Posterior"]
