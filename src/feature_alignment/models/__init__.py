"""The paper's models. Each one encodes, decodes, reconstructs and samples images, and can be saved and loaded."""

from .ae import AE
from .fa import FA
from .gan import GAN
from .local import Local
from .model import Model
from .updates import Loss, Updates
from .vae import VAE
from .variational import Posterior
from .vfa import VFA
from .vfa_gan import VFAGAN

__all__ = ["AE", "FA", "GAN", "VAE", "VFA", "VFAGAN", "Local", "Loss", "Model", "Posterior", "Updates"]
