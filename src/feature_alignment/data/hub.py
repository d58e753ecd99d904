"""Data sets of the Hugging Face Hub, and folders of parquet files like those there. Needs the extra ``[hub]``."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..extras import require
from .cache import Decoded, Meta, cached, hash_of, listing, nothing_skipped
from .columns import image_column, label_column, labels_of
from .decoding import Picture, common_shape, decode
from .errors import DataError, one_line
from .request import Request
from .splits import held_out, held_out_name

__all__ = ["decode_hub", "load_hub"]

datasets = require("datasets", "hub", "data sets of the Hugging Face Hub")


def load_hub(repository: str, request: Request) -> Decoded:
    """Decode a split of owner/name, or of a folder of parquet files, or take it from the cache."""
    root = Path(repository).resolve()
    repository = str(root) if root.is_dir() else repository
    files = [file for file in root.rglob("*") if file.is_file()] if root.is_dir() else []
    wanted = [request.image, request.label, request.split, request.image_size, request.channels]
    return cached(
        f"hub-{'-'.join(Path(repository).parts[-2:])}-{request.split}-"
        f"{hash_of([repository, *wanted, listing(root, files)])}",
        lambda directory: decode_hub(directory, repository, request),
        keep=nothing_skipped,
    )


def decode_hub(directory: Path, repository: str, request: Request) -> Meta:
    """Write a split of a data set into ``directory``.

    Args:
        directory: to write to.
        repository: owner/name, or a folder that ``datasets`` can load.
        request: the split (docs/data.md lists its possible names) and the columns of images and labels, by default
            the only ones; ``image_size`` is by default that of the images if all are squares of one size, else 64;
            ``channels`` is by default 1 if all images are grey, else 3.

    Raises:
        DataError: the set cannot be loaded, the split is empty, or a column is missing, unusable or ambiguous.
    """
    train, test = _train_and_test(repository, _parts_of(repository))
    rows = train if request.split == "train" else test
    if not len(rows):
        raise DataError(f"{repository}: the {request.split} split is empty")
    image = image_column(repository, train.features, request.image)
    label = label_column(repository, train.features, request.label)
    labels, classes = labels_of(repository, train, test, rows, label)
    image_size, channels = request.image_size, request.channels
    if image_size is None or channels is None:  # from the training images, so that both splits agree
        own_size, own_channels = common_shape(_pictures_of(repository, train, image))
        image_size, channels = image_size or own_size, channels or own_channels
    pictures = _pictures_of(repository, rows, image)
    return decode(directory, repository, pictures, labels, classes, image_size, channels, request.strict)


def _parts_of(repository: str) -> dict[str, Any]:
    """Return the splits of a data set by name."""
    try:
        parts: dict[str, Any] = datasets.load_dataset(repository)
    except Exception as error:  # the library has no common base for what a download can raise
        raise DataError(
            f"{repository} cannot be loaded, neither from a folder nor from the Hugging Face Hub: {one_line(error)}"
        ) from None
    return parts


def _train_and_test(repository: str, parts: dict[str, Any]) -> tuple[Any, Any]:
    """Return the training and the held-out rows; every tenth row is held out if the set has no test split."""
    if "train" not in parts and len(parts) != 1:
        raise DataError(f"{repository}: no split train; its splits are {', '.join(parts)}")
    if test := held_out_name(parts):
        return parts["train"], parts[test]
    train = parts["train"] if "train" in parts else next(iter(parts.values()))
    marks = held_out(len(train))
    return train.select(np.flatnonzero(~marks)), train.select(np.flatnonzero(marks))


def _pictures_of(repository: str, rows: Any, column: str) -> Iterator[Picture]:
    """Yield the images row by row, since ``rows[column]`` could exceed the memory."""
    rows = rows.select_columns([column])
    if isinstance(rows.features[column], datasets.Image):
        rows = rows.cast_column(column, datasets.Image(decode=False))
    for index, row in enumerate(rows):
        content, path = (row[column] or {}).get("bytes"), (row[column] or {}).get("path")
        yield f"{repository}, image {index}", Path(path) if path and not content else io.BytesIO(content or b"")
