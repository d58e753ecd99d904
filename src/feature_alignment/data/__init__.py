"""Data sets, each as one uint8 tensor that is indexed per batch.

Every set is decoded once, into a memory-mapped cache under ``$FALIGN_CACHE`` (by default
``~/.cache/feature-alignment``); a batch is that tensor at random indices.
"""

from .batches import Batches
from .cache import cache_directory
from .errors import DataError
from .images import Images, to_pixels
from .loading import ImageReader, folders_read, load, read_image
from .sets import DATA_SETS
from .training_data import DataOptions, TrainingData

__all__ = [
    "DATA_SETS",
    "Batches",
    "DataError",
    "DataOptions",
    "ImageReader",
    "Images",
    "TrainingData",
    "cache_directory",
    "folders_read",
    "load",
    "read_image",
    "to_pixels",
]
