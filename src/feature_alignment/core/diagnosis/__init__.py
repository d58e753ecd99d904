"""What survives the way back through a network, layer by layer."""

from .clipping import CLIPPED, clipped_share
from .depths import MOST, find_layers
from .layer import Layer, Options, diagnose_layer, part_of
from .pre_images import PreImages, other_mean, pre_images
from .spectrum import WHOLE, Spectrum, spectrum

__all__ = [
    "CLIPPED",
    "MOST",
    "WHOLE",
    "Layer",
    "Options",
    "PreImages",
    "Spectrum",
    "clipped_share",
    "diagnose_layer",
    "find_layers",
    "other_mean",
    "part_of",
    "pre_images",
    "spectrum",
]
