"""Data sets, each as one uint8 tensor that is indexed per batch.

Every set is decoded once, into a memory-mapped cache under ``$FALIGN_CACHE`` (by default
``~/.cache/feature-alignment``); nothing stands between that tensor and the training step but an index.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset
from tqdm import tqdm

from .readers import (
    DATA_SETS,
    DataError,
    Meta,
    Pixels,
    Split,
    cache_directory,
    files_of,
    from_folder,
    from_hub,
    memory_map,
    read_image,
)

__all__ = ["DATA_SETS", "DataError", "Images", "Split", "cache_directory", "load", "read_image", "to_pixels"]

#: Images converted at a time, so that a set need not fit into memory.
CHUNK = 256


@dataclass(frozen=True)
class Images(Dataset[tuple[Tensor, Tensor | None]]):
    """One split of a data set.

    Attributes:
        name: of the data set.
        split: ``train`` or ``test``.
        pixels: uint8, shape ``(N, C, H, W)``.
        labels: int64, shape ``(N,)``, or none.
        classes: their names.
    """

    name: str
    split: Split
    pixels: Tensor
    labels: Tensor | None
    classes: tuple[str, ...]

    @property
    def shape(self) -> tuple[int, int, int]:
        """``(C, H, W)``."""
        channels, height, width = self.pixels.shape[1:]
        return channels, height, width

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor | None]:
        return self.pixels[index], None if self.labels is None else self.labels[index]

    def __getitems__(self, indices: Sequence[int]) -> tuple[Tensor, Tensor | None]:
        """Return a whole batch by its indices."""
        chosen = torch.as_tensor(indices, device=self.pixels.device)
        return self.pixels[chosen], None if self.labels is None else self.labels[chosen]

    def images(self, count: int | None = None) -> Tensor:
        """Return the first ``count`` images (all by default) as float32 in [0, 1]."""
        return self.pixels[:count].float() / 255


def load(
    name: str,
    split: Split,
    *,
    image_size: int | None = None,
    channels: int | None = None,
    strict: bool = False,
    image: str | None = None,
    label: str | None = None,
) -> Images:
    """Load one split of a data set; docs/data.md says what there is and where it is looked for.

    Args:
        name: a name in :data:`DATA_SETS`; or a folder of images in any format PIL reads: one subfolder a
            class, or no subfolders and no labels; with subfolders ``train`` and ``test`` these are the
            splits, otherwise every tenth image is held out; or owner/name of a set on the Hugging Face Hub
            (``hf:`` before the name says that it is one), or a folder of parquet files like those there.
        split: ``train`` or ``test``.
        image_size: side to which images are brought: the shorter side is resized, the centre cropped.
        channels: 1 or 3.
        strict: stop at the first unreadable image of a folder or the Hub instead of naming and skipping it.
        image: column of the images, for a set of the Hub; by default the one there is.
        label: column of the labels, for a set of the Hub: classes, integers or strings; by default the one
            there is, if any.

    Raises:
        DataError: an unknown name, a data set that is not there, or one with no usable image.
    """
    if split not in ("train", "test"):
        raise DataError(f"split: expected train or test, got {split!r}")
    if channels not in (None, 1, 3):
        raise DataError(f"channels: expected 1 or 3, got {channels}")
    if image_size is not None and image_size < 1:
        raise DataError(f"image_size: expected at least 1, got {image_size}")
    on_hub = _is_on_hub(name)
    if not on_hub and (image, label) != (None, None):
        raise DataError(f"image, label: are columns of a data set of the Hugging Face Hub, which {name!r} is not")
    if on_hub:
        found = _from_hub(name.removeprefix("hf:"), split, image, label, image_size, channels, strict)
    elif name in DATA_SETS:
        found = _named(name, split, image_size, channels)
    elif Path(name).is_dir():
        found = _from_folder(Path(name).resolve(), split, image_size or 64, channels or 3, strict)
    else:
        raise DataError(
            f"data set {name!r}: neither a known name ({', '.join(DATA_SETS)}) nor a folder that exists nor "
            "owner/name on the Hugging Face Hub"
        )
    return Images(name, split, found.pixels, found.labels, found.classes)


def _is_on_hub(name: str) -> bool:
    if name.startswith("hf:"):
        return name != "hf:"
    if Path(name).is_dir():
        return name not in DATA_SETS and any(Path(name).rglob("*.parquet"))
    return re.fullmatch(r"\w[\w.-]*/[\w.-]+", name) is not None


def _named(name: str, split: Split, image_size: int | None, channels: int | None) -> _Decoded:
    reader = DATA_SETS[name]
    found = _cached(f"{name}-{split}", lambda directory: reader(split, directory))
    own = found.pixels.shape
    shape = (channels or own[1], image_size or own[2], image_size or own[3])
    if shape == own[1:]:
        return found
    return _cached(f"{name}-{split}-{'x'.join(map(str, shape))}", lambda directory: _fit(directory, found, shape))


def _from_hub(
    repository: str,
    split: Split,
    image: str | None,
    label: str | None,
    image_size: int | None,
    channels: int | None,
    strict: bool,
) -> _Decoded:
    root = Path(repository).resolve()
    repository = str(root) if root.is_dir() else repository
    files = [file for file in root.rglob("*") if file.is_file()] if root.is_dir() else []
    key = [repository, image, label, split, image_size, channels, _listing(root, files)]
    return _cached(
        f"hub-{'-'.join(Path(repository).parts[-2:])}-{split}-{_hash(key)}",
        lambda directory: from_hub(directory, repository, split, image, label, image_size, channels, strict),
        keep=_nothing_skipped,
    )


def _from_folder(root: Path, split: Split, image_size: int, channels: int, strict: bool) -> _Decoded:
    files, classes = files_of(root, split)
    key = [str(root), split, image_size, channels, _listing(root, [file for file, _ in files])]
    return _cached(
        f"folder-{root.name}-{split}-{_hash(key)}",
        lambda directory: from_folder(directory, root, files, classes, image_size, channels, strict),
        keep=_nothing_skipped,
    )


def _listing(root: Path, files: Sequence[Path]) -> list[tuple[str, int, int]]:
    """Return what tells a folder from the same folder changed."""
    return sorted((str(file.relative_to(root)), file.stat().st_size, file.stat().st_mtime_ns) for file in files)


def _hash(key: Any) -> str:
    return hashlib.sha256(json.dumps(key).encode()).hexdigest()[:16]


def _nothing_skipped(meta: Meta) -> bool:
    return not meta["skipped"]  # so that a broken image is named again next time


# --- the cache ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Decoded:
    pixels: Tensor
    labels: Tensor | None
    classes: tuple[str, ...]


def _cached(
    name: str,
    build: Callable[[Path], Meta],
    keep: Callable[[Meta], bool] = lambda meta: True,
) -> _Decoded:
    """Return the set decoded under ``name``, building it if it is not there.

    It is built in a directory of its own and moved into place whole, so that neither a process killed
    half-way nor two that build at once leave anything but a complete set behind.
    """
    place = cache_directory() / name
    if (place / "meta.json").is_file():
        return _open(place)
    place.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=place.parent))
    try:
        meta = build(scratch)
        (scratch / "meta.json").write_text(json.dumps(meta))
        if not keep(meta):
            # The open mapping stays valid after the files' names are gone.
            return _open(scratch)
        try:
            scratch.rename(place)
        except OSError:  # another process was first
            if not (place / "meta.json").is_file():
                raise
        return _open(place)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _open(place: Path) -> _Decoded:
    meta = json.loads((place / "meta.json").read_text())
    pixels = _mapped(place / "images.npy")[: meta["count"]]
    labels = torch.from_numpy(np.load(place / "labels.npy"))[: meta["count"]] if meta["classes"] else None
    return _Decoded(pixels, labels, tuple(meta["classes"]))


def _mapped(path: Path) -> Tensor:
    try:  # copy on write: torch wants writable memory, the file must not change
        return torch.from_numpy(np.load(path, mmap_mode="c"))
    except OSError:  # a set larger than the memory could not all be copied, so the system refuses
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*not writable")
            return torch.from_numpy(np.load(path, mmap_mode="r"))


def to_pixels(images: Tensor) -> Pixels:
    """Turn float images in [0, 1], shape ``(..., C, H, W)``, into uint8 arrays with the channels last."""
    return (255 * images.clamp(0, 1)).round().byte().movedim(-3, -1).cpu().numpy()


def _fit(directory: Path, found: _Decoded, shape: tuple[int, ...]) -> Meta:
    """Bring decoded pixels to ``(C, H, W)``, by chunks."""
    fitted = memory_map(directory, (len(found.pixels), *shape))
    for start in tqdm(range(0, len(fitted), CHUNK), desc="resizing", delay=1):
        chunk = _resized(_coloured(found.pixels[start : start + CHUNK], shape[0]), shape[1])
        fitted[start : start + CHUNK] = chunk.numpy()
    if found.labels is not None:
        np.save(directory / "labels.npy", found.labels.numpy())
    return {"count": len(fitted), "classes": list(found.classes), "skipped": 0}


def _coloured(pixels: Tensor, channels: int) -> Tensor:
    if channels == pixels.shape[1]:
        return pixels
    if channels == 3:
        return pixels.expand(-1, 3, -1, -1)
    weights = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)  # ITU-R 601 luma, as PIL's
    return (pixels * weights).sum(1, keepdim=True).round().byte()


def _resized(pixels: Tensor, image_size: int) -> Tensor:
    """Resize images of a named set, which are all square."""
    if pixels.shape[2:] == (image_size, image_size):
        return pixels
    resized = nn.functional.interpolate(pixels.float(), (image_size, image_size), mode="bicubic", antialias=True)
    return resized.round().clamp(0, 255).byte()
