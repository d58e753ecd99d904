"""Data sets, each as one uint8 tensor that is indexed per batch."""

from .images import DATA_SETS, DataError, DataModule, Images, cache_directory, load, read_image, to_pixels

__all__ = ["DATA_SETS", "DataError", "DataModule", "Images", "cache_directory", "load", "read_image", "to_pixels"]
