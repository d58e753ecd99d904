"""Networks by name, as ``falign`` takes them: a run, a library's model, an importable class, an exported file."""

from .errors import NetworkError
from .images import image_files, load_images, read_images
from .loaded import LoadedNetwork
from .loading import load_network

__all__ = ["LoadedNetwork", "NetworkError", "image_files", "load_images", "load_network", "read_images"]
