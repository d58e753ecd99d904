"""Data sets of the Hugging Face Hub, and folders of parquet files like those there. Needs the extra ``[hub]``."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..extras import require
from ..files import portable, user_path
from ..progress import bars_on_a_terminal_alone
from .cache import VERSION, Decoded, Meta, cached, hash_of, listing
from .columns import image_column, label_column, labels_of
from .decoding import common_shape, decode
from .errors import DataError, one_line
from .findings import Findings
from .formats import readable
from .picture import Picture, white_of
from .request import Request
from .splits import held_out, splits_among

__all__ = ["decode_hub", "load_hub"]

datasets = require("datasets", "hub", "data sets of the Hugging Face Hub")


def load_hub(repository: str, request: Request) -> Decoded:
    """Decode a split of owner/name, or of a folder of parquet files, or take it from the cache."""
    root = user_path(repository).resolve()
    repository = str(root) if root.is_dir() else repository
    files = [file for file in root.rglob("*") if file.is_file()] if root.is_dir() else []
    asked = [request.image, request.label, request.config, request.split, request.image_size, request.channels]
    key = hash_of([VERSION, repository, *asked, request.white, listing(root, files), *readable()])
    findings = Findings()
    with bars_on_a_terminal_alone("datasets", "huggingface_hub"):
        return cached(
            f"hub-{'-'.join(map(portable, Path(repository).parts[-2:]))}-{request.split}-{key}",
            lambda directory: decode_hub(directory, repository, request, findings),
            keep=lambda: not findings.transient,
        )


def decode_hub(directory: Path, repository: str, request: Request, findings: Findings) -> Meta:
    """Write a split of a data set into ``directory``.

    Args:
        directory: to write to.
        repository: owner/name, or a folder that ``datasets`` can load.
        request: the split (docs/data.md lists its possible names) and the columns of images and labels, by default
            the only ones; ``image_size`` is by default that of the images if all are squares of one size, else 64;
            ``channels`` is by default 1 if all images are grey, else 3.
        findings: told of what is skipped.

    Raises:
        DataError: the set cannot be loaded, the split is empty, or a column is missing, unusable or ambiguous.
    """
    train, test = _train_and_test(repository, _parts_of(repository, request.config), findings)
    rows = train if request.split == "train" else test
    if not len(rows):
        raise DataError(f"{repository}: the {request.split} split is empty")
    image = image_column(repository, train.features, request.image)
    label = label_column(repository, train.features, request.label)
    labels, classes = labels_of(train, test, rows, label, findings)
    image_size, channels = request.image_size, request.channels
    if image_size is None or channels is None:  # from the training images, so that both splits agree
        own_size, own_channels = common_shape(_pictures_of(repository, train, image))
        image_size, channels = image_size or own_size, channels or own_channels

    def everything() -> Iterator[Picture]:
        return itertools.chain(*(_pictures_of(repository, each, image) for each in (train, test)))

    white = white_of(everything, findings, request.white)
    pictures = _pictures_of(repository, rows, image)
    return decode(
        directory, repository, pictures, labels, classes, image_size, channels, request.strict, white, findings
    )


def _parts_of(repository: str, config: str | None) -> dict[str, Any]:
    """Return the splits of a data set by name."""
    try:
        parts: dict[str, Any] = datasets.load_dataset(repository, *([config] if config else []))
    except Exception as error:  # the library has no common base for what a download can raise
        if names := _configurations(repository, error):
            asked = f"no configuration {config!r}" if config else "it has several configurations"
            raise DataError(f"{repository}: {asked}; choose by --data.config one of {', '.join(names)}") from None
        raise DataError(
            f"{repository} cannot be loaded, neither from a folder nor from the Hugging Face Hub: {one_line(error)}"
        ) from None
    return parts


def _configurations(repository: str, error: Exception) -> list[str]:
    """Return the names of the configurations if loading failed for want of one of them."""
    if not (isinstance(error, ValueError) and "Config" in str(error)):
        return []
    try:
        names: list[str] = datasets.get_dataset_config_names(repository)
    except Exception:  # then the library's own message is said
        return []
    return names


def _train_and_test(repository: str, parts: dict[str, Any], findings: Findings) -> tuple[Any, Any]:
    """Return the training and the held-out rows; every tenth row is held out if the set has no test split."""
    try:
        train, tests = splits_among(parts)
    except DataError as error:
        raise DataError(f"{repository}: {error}") from None
    if train is None and len(parts) != 1:
        raise DataError(f"{repository}: no split train; its splits are {', '.join(parts)}")
    used = [train, *tests[:1]] if train else list(parts)
    for name in parts:
        if name not in used:
            findings.note(f"the {len(parts[name]):,} images of the split {name} are not used")
    if train and tests:
        return parts[train], parts[tests[0]]
    rows = parts[used[0]]
    if not train:
        findings.note(f"{used[0]} is the only split, so every tenth of its images is held out")
    marks = held_out(len(rows))
    return rows.select(np.flatnonzero(~marks)), rows.select(np.flatnonzero(marks))


def _pictures_of(repository: str, rows: Any, column: str) -> Iterator[Picture]:
    """Yield the images row by row, since ``rows[column]`` could exceed the memory."""
    rows = rows.select_columns([column])
    if isinstance(rows.features[column], datasets.Image):
        rows = rows.cast_column(column, datasets.Image(decode=False))
    for index, row in enumerate(rows):
        content, path = (row[column] or {}).get("bytes"), (row[column] or {}).get("path")
        yield f"{repository}, image {index}", Path(path) if path and not content else (content or b"")
