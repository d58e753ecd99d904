"""Data sets, each as one uint8 tensor that is indexed per batch."""

from .batches import Batches
from .images import DATA_SETS, DataError, Images, cache_directory, load, read_image, to_pixels
from .training_data import DataOptions, TrainingData

__all__ = [
    "DATA_SETS",
    "Batches",
    "DataError",
    "DataOptions",
    "Images",
    "TrainingData",
    "cache_directory",
    "load",
    "read_image",
    "to_pixels",
]
