"""Loading images by name, from any of their sources."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from ..files import user_path
from .cache import Decoded
from .errors import DataError
from .findings import Findings
from .images import Images
from .request import Request
from .sets import DATA_SETS, load_named
from .shards import is_archive, shards_of
from .splits import Split, splits_among
from .white import Given

__all__ = ["ImageReader", "folders_read", "load", "read_image"]


def load(
    name: str,
    split: Split,
    *,
    image_size: int | None = None,
    channels: int | None = None,
    strict: bool = False,
    image: str | None = None,
    label: str | None = None,
    config: str | None = None,
    white: Given | None = None,
) -> Images:
    """Load one split of a data set; docs/data.md lists the sets and where their files are searched.

    Whatever is skipped is counted by reason, in a warning of one line; so is what is guessed. A data set with one
    class has no labels.

    Args:
        name: a name in :data:`DATA_SETS`; or a folder of images in any format PIL reads: one subfolder per
            class, or no subfolders and no labels; with subfolders ``train`` and ``test`` (``validation``, ``valid``,
            ``val``, in any case) these are the splits, otherwise every tenth image is held out; or a zip or tar
            archive of such a folder, or shards, ``shard-{000..009}.tar`` or a folder of them, with the labels in files
            ``.cls`` or ``.json`` or in folders; or owner/name of a set on the Hugging Face Hub (the prefix ``hf:``
            resolves ambiguity), or a folder of parquet files in its format. ``~`` is the home directory.
        split: ``train`` or ``test``.
        image_size: side of the images: the shorter side is resized, the centre cropped. By default
            that of the data set, 64 for a folder.
        channels: 1 or 3; by default those of the data set, 3 for a folder.
        strict: raise an error if anything is skipped.
        image: column of the images, for a set of the Hub; by default the only one.
        label: column of the labels, for a set of the Hub: classes, integers or strings; by default ``label``,
            or the only column of classes, or none.
        config: configuration, for a set of the Hub that has several.
        white: the value of white in images of more than 8 bits; by default by the files' headers, see
            :mod:`feature_alignment.data.white`; or the ``white`` of other :class:`Images`.

    Raises:
        DataError: an unknown name, a data set whose files are missing, or one without a readable image.
        MissingExtra: a library that this kind of data set needs is not installed.

    Example:
        >>> digits = load("mnist-mini", "test", image_size=32)
        >>> digits.pixels.shape, len(digits.classes)
        (torch.Size([500, 1, 32, 32]), 10)
    """
    request = Request(split, image_size, channels, strict, image, label, config, white)
    found = _found(name, request)
    found.findings.announce(name, strict)
    if len(found.classes) == 1:
        warnings.warn(f"{name}: {found.classes[0]} is the only class, so no labels are used", stacklevel=2)
        return Images(name, split, found.pixels, None, (), found.white)
    return Images(name, split, found.pixels, found.labels, found.classes, found.white)


def _found(name: str, request: Request) -> Decoded:
    # Imported here: folders, archives and sets of the Hub need libraries that named sets do not.
    path = user_path(name)
    if _is_on_hub(name, path):
        from .hub import load_hub

        return load_hub(name.removeprefix("hf:"), request)
    if (request.image, request.label, request.config) != (None, None, None):
        raise DataError(f"image, label, config: are of a data set of the Hugging Face Hub, which {name!r} is not")
    if name in DATA_SETS:
        return load_named(name, request)
    if is_archive(name):
        from .archives import load_archives

        return load_archives(name, shards_of(name), request)
    if path.is_dir():
        from .folders import load_folder

        return load_folder(path.resolve(), request)
    raise DataError(
        f"data set {name!r}: neither a known name ({', '.join(DATA_SETS)}) nor a folder or archive that exists nor "
        "owner/name on the Hugging Face Hub"
    )


def _is_on_hub(name: str, path: Path) -> bool:
    if name.startswith("hf:"):
        return name != "hf:"
    if path.is_dir():
        return name not in DATA_SETS and any(path.rglob("*.parquet"))
    return not is_archive(name) and re.fullmatch(r"\w[\w.-]*/[\w.-]+", name) is not None


def folders_read(name: str) -> list[Path]:
    """Return the folders below which every image is one of the data set of this name; none if it is no such folder.

    Those of the splits, where the folder has them: what lies beside these is not used.

    Example:
        >>> for split in ("train", "test"):
        ...     (folder / "flowers" / split).mkdir(parents=True)
        >>> [path.name for path in folders_read(str(folder / "flowers"))], folders_read("mnist-mini")
        (['train', 'test'], [])
    """
    path = user_path(name)
    if not name or name in DATA_SETS or not path.is_dir() or _is_on_hub(name, path):
        return []
    train, tests = splits_among(each.name for each in path.iterdir() if each.is_dir())
    return [path / each for each in (train, *tests)] if train and tests else [path]


def read_image(path: str | Path, image_size: int, channels: int, white: Given | None = None) -> Tensor:
    """Read an image file: orient it, resize its shorter side, crop the centre; transparency becomes white.

    Args:
        path: a file in any format PIL reads.
        image_size: side of the result.
        channels: 1 (grey) or 3 (RGB).
        white: the value of white in an image of more than 8 bits; by default by its header, with a warning if that
            is a guess; or the ``white`` of :class:`Images`.

    Returns:
        uint8, shape ``(channels, image_size, image_size)``.

    Raises:
        DataError: the file is missing or not a readable image.
        MissingExtra: PIL is not installed.
    """
    return ImageReader([path], image_size, channels, white)(path)


class ImageReader:
    """Reads image files that are compared with each other, as :func:`read_image` does but with one white for all.

    Args:
        paths: of all the files; those of more than 8 bits determine the value of white together.
        image_size: side of the results.
        channels: 1 (grey) or 3 (RGB).
        white: the value of white, instead.

    Raises:
        DataError: an impossible number of channels.
        MissingExtra: PIL is not installed.
    """

    def __init__(self, paths: Sequence[str | Path], image_size: int, channels: int, white: Given | None = None) -> None:
        from .picture import white_of

        if channels not in (1, 3):
            raise DataError(f"channels: expected 1 or 3, got {channels}")
        self._size, self._findings, self._announced = (image_size, channels), Findings(), 0
        self._white = white_of(lambda: ((str(path), user_path(path)) for path in paths), self._findings, white)

    def __call__(self, path: str | Path) -> Tensor:
        """Return the pixels of one of the files, uint8 of shape ``(channels, image_size, image_size)``.

        Raises:
            DataError: it is missing or not a readable image.
        """
        from .picture import decode_image

        pixels = torch.from_numpy(decode_image(str(path), user_path(path), *self._size, self._white).copy())
        for note in self._findings.notes[self._announced :]:
            warnings.warn(f"{path}: {note}", stacklevel=2)
        self._announced = len(self._findings.notes)
        return pixels
