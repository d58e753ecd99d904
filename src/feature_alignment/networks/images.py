"""Image files as a network's pixels. Needs the extra ``[train]``."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from ..data import DataError, ImageReader
from ..data.findings import Findings
from ..files import user_path
from .errors import NetworkError
from .loaded import LoadedNetwork

__all__ = ["image_files", "load_images", "read_images", "side_of"]

#: Images of a network that has no size of its own are not enlarged beyond this side.
LARGEST = 224


def image_files(paths: Sequence[str | Path]) -> list[Path]:
    """Return the files, and in the place of each folder the images in it and below, sorted; each file once.

    Raises:
        NetworkError: a folder without images, or neither file nor folder.
    """
    found: dict[Path, Path] = {}
    for path in (user_path(each) for each in paths):
        for file in _within(path) if path.is_dir() else [path]:
            found.setdefault(file.absolute(), file)
    return list(found.values())


def _within(folder: Path) -> list[Path]:
    from ..data.folders import list_folder

    findings = Findings()
    found = [folder / name for name in list_folder(folder.resolve(), findings).paths]
    findings.announce(str(folder), strict=False)
    if not found:
        raise NetworkError(f"{folder}: no images in this folder")
    return found


def read_images(
    paths: Sequence[str | Path], loaded: LoadedNetwork, among: Sequence[Path] | None = None
) -> Iterator[tuple[Path, Tensor]]:
    """Yield files and their pixels in [0, 1], float32, shape ``(C, H, W)``, resized and cropped for the network.

    Those that cannot be read are skipped, each with a warning of one line.

    Args:
        paths: files, or folders of images.
        loaded: the network, for its image shape and value of white.
        among: all files that are compared, by which white is decided unless the network has it; by default these.

    Raises:
        NetworkError: the network takes neither 1 nor 3 channels.
    """
    channels, height, width = loaded.image_shape
    if channels not in (1, 3):
        raise NetworkError(f"{loaded.name}: takes {channels} channels; image files have 1 or 3")
    files = image_files(paths)
    read = ImageReader(among or files, max(height, width), channels, loaded.white)
    for path in files:
        try:
            pixels = read(path)
        except DataError as error:
            warnings.warn(f"skipped {error}", stacklevel=2)
            continue
        yield path, _cropped(pixels, height, width).float() / 255


def _cropped(pixels: Tensor, height: int, width: int) -> Tensor:
    top, left = (pixels.shape[-2] - height) // 2, (pixels.shape[-1] - width) // 2
    return pixels[:, top : top + height, left : left + width]


def load_images(paths: Sequence[str | Path], loaded: LoadedNetwork) -> Tensor:
    """Return the pixels of :func:`read_images` as one batch, shape ``(N, C, H, W)``.

    Raises:
        NetworkError: none of them can be read.

    Example:
        >>> from PIL import Image
        >>> Image.new("RGB", (64, 48), "white").save(folder / "white.png")
        >>> loaded = LoadedNetwork("mine", nn.Flatten(), (3, 32, 32))
        >>> load_images([folder], loaded).shape
        torch.Size([1, 3, 32, 32])
    """
    found = [pixels for _, pixels in read_images(paths, loaded)]
    if not found:
        raise NetworkError(f"none of the images can be read: {', '.join(map(str, paths))}")
    return torch.stack(found)


def side_of(paths: Sequence[str | Path]) -> int:
    """Return the smallest side of image files, at most :data:`LARGEST`; that if none can be read."""
    from ..data.picture import header

    sizes = [found[0] for path in image_files(paths) if (found := header(path))]
    return min([LARGEST, *(min(size) for size in sizes)])
