"""Which columns of a data set of the Hugging Face Hub hold the images and the labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..extras import require
from .errors import DataError
from .findings import Findings
from .splits import normalised

__all__ = ["image_column", "label_column", "labels_of"]

datasets = require("datasets", "hub", "data sets of the Hugging Face Hub")


def image_column(repository: str, features: dict[str, Any], asked: str | None) -> str:
    """Return the column of the images: the one asked for, or the only one.

    Raises:
        DataError: there is none, the one asked for does not exist or has no images, or the choice is ambiguous.
    """
    found = _column(repository, features, "image", asked, [name for name in features if _is_image(features[name])])
    if found is None:
        raise DataError(f"{repository}: no column of images; its columns are {', '.join(features)}")
    if not _is_image(features[found]):
        raise DataError(f"{repository}: the column {found} has no images; its columns are {', '.join(features)}")
    return found


def label_column(repository: str, features: dict[str, Any], asked: str | None) -> str | None:
    """Return the column of the labels: the one asked for, or ``label``, or the only one of classes, or none.

    Raises:
        DataError: the column asked for does not exist or has no labels, or the choice is ambiguous.
    """
    classes = [name for name, feature in features.items() if isinstance(feature, datasets.ClassLabel)]
    usual = [name for name in ("label",) if name in features and _is_label(features[name])]
    found = _column(repository, features, "label", asked, usual or classes)
    if found is not None and not _is_label(features[found]):
        raise DataError(f"{repository}: the column {found} has neither classes nor integers nor strings for labels")
    return found


def _is_image(feature: Any) -> bool:
    # Parquet files that were not written by datasets have the struct without the name of its type.
    return isinstance(feature, datasets.Image) or (isinstance(feature, dict) and set(feature) == {"bytes", "path"})


def _is_label(feature: Any) -> bool:
    kind = str(getattr(feature, "dtype", ""))
    return isinstance(feature, datasets.ClassLabel) or kind in ("string", "large_string", "bool") or "int" in kind


def _column(repository: str, features: dict[str, Any], kind: str, asked: str | None, found: list[str]) -> str | None:
    """Return the column asked for, or the one that was found, if any."""
    if asked is not None:
        if asked not in features:
            raise DataError(f"{repository}: no column {asked!r} for {kind}; its columns are {', '.join(features)}")
        return asked
    if len(found) > 1:
        raise DataError(f"{repository}: which column is the {kind}, {' or '.join(found)}? Say so with data.{kind}")
    return found[0] if found else None


def labels_of(
    train: Any, test: Any, rows: Any, column: str | None, findings: Findings
) -> tuple[Sequence[int], Sequence[str]]:
    """Return the class of each of ``rows`` and the names of the classes; -1 and no names where there are none.

    The classes are those of both splits, in order of value where the set does not name them itself.
    """
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
        findings.note(f"{missing:,} of {len(rows):,} labels are missing, so none is used")
        return unlabelled
    return [index[value] for value in values], [normalised(name) for name in names]


def _values_of(rows: Any, column: str) -> list[Any]:
    values: list[Any] = rows.select_columns([column])[:][column]
    return values
