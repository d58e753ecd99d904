"""The paper's models and baselines: each encodes, decodes, reconstructs and samples images, and is saved and loaded."""

from .ae import AE
from .fa import FA
from .gan import GAN
from .gon import GON
from .local import Local
from .model import Model
from .updates import Loss, Updates
from .vae import VAE
from .variational import Posterior
from .vfa import VFA
from .vfa_gan import VFAGAN

__all__ = ["AE", "FA", "GAN", "GON", "VAE", "VFA", "VFAGAN", "Local", "Loss", "Model", "Posterior", "Updates"]
