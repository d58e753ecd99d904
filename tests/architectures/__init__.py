"""The zoo of small architectures that the contract test and the table of networks go through."""

from . import from_timm, from_torchvision, from_transformers, own
from .zoo import ARCHITECTURES, Architecture

__all__ = ["ARCHITECTURES", "Architecture", "from_timm", "from_torchvision", "from_transformers", "own"]
