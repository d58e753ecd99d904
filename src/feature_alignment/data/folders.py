"""Folders of images: one subfolder per class, or no subfolders."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .cache import Decoded, cached, hash_of, listing, nothing_skipped
from .decoding import SIDE, decode, is_image
from .errors import DataError
from .request import Request
from .splits import Split, held_out, held_out_name

__all__ = ["load_folder"]

#: Image files with the index of their class, -1 for none.
Files = list[tuple[Path, int]]


def load_folder(root: Path, request: Request) -> Decoded:
    """Decode a split of the images under ``root``, an absolute path, or take it from the cache.

    Raises:
        DataError: no images, images beside class folders, or a class in ``test`` that is not in ``train``.
    """
    files, classes = _files_of(root, request.split)
    image_size, channels = request.image_size or SIDE, request.channels or 3
    pictures = ((str(file), file) for file, _ in files)
    labels = [label for _, label in files]
    key = [str(root), request.split, image_size, channels, listing(root, [file for file, _ in files])]
    return cached(
        f"folder-{root.name}-{request.split}-{hash_of(key)}",
        lambda directory: decode(directory, str(root), pictures, labels, classes, image_size, channels, request.strict),
        keep=nothing_skipped,
    )


def _files_of(root: Path, split: Split) -> tuple[Files, list[str]]:
    """Return the image files of a split and the names of the classes."""
    given = held_out_name([each.name for each in root.iterdir() if each.is_dir()], known=("test",))
    top = root / (split if split == "train" else given) if given else root
    groups, loose = _by_class(top), _images_in(top)
    if groups and loose:
        raise DataError(
            f"{top}: {len(loose)} images lie beside the class folders {', '.join(groups)}; every image must be in a "
            "class folder, or none"
        )
    names = _classes_of(root / "train", groups, top) if given else list(groups)
    files: Files = []
    for index, group in [(names.index(name), group) for name, group in groups.items()] or [(-1, loose)]:
        marks = np.full(len(group), split == "test") if given else held_out(len(group))
        files += [(file, index) for file, mark in zip(group, marks, strict=True) if mark == (split == "test")]
    if not files:
        raise DataError(f"{top}: no images for the {split} split (formats by extension: png, jpg, webp, ...)")
    return files, names


def _images_in(folder: Path) -> list[Path]:
    return [each for each in sorted(folder.iterdir()) if is_image(each)]


def _class_folders(top: Path) -> list[Path]:
    return sorted(each for each in top.iterdir() if each.is_dir() and not each.name.startswith("."))


def _by_class(top: Path) -> dict[str, list[Path]]:
    """Return the images of every class that has some."""
    groups = {
        folder.name: [each for each in sorted(folder.rglob("*")) if is_image(each)] for folder in _class_folders(top)
    }
    return {name: files for name, files in groups.items() if files}


def _classes_of(train: Path, groups: dict[str, list[Path]], top: Path) -> list[str]:
    """Return the classes of the training split; raise a DataError if the held-out split has others."""
    names = [folder.name for folder in _class_folders(train)]
    unknown = sorted(set(groups) - set(names))
    if unknown:
        raise DataError(f"{top}: the class {unknown[0]} is not among those of {train}")
    return names
