"""The aligned faces of CelebA, 162,770 and 19,962, without attributes."""

from __future__ import annotations

from pathlib import Path

from ..cache import Meta, data_directory
from ..errors import DataError
from ..findings import Findings
from ..splits import Split
from .named_set import FilesMissing, NamedSet

__all__ = ["CELEBA"]

SIDE = 64


def _read(split: Split, directory: Path) -> Meta:
    folder = data_directory() / "celeba"
    images, partition = folder / "img_align_celeba", folder / "list_eval_partition.txt"
    if not (images.is_dir() and partition.is_file()):
        raise FilesMissing(
            f"celeba: no {images.name} and {partition.name} in {folder}",
            "put both there, from https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html",
        )
    files = [images / name for name in _names_of(partition, split)]
    if not files:
        raise DataError(f"{partition}: no images of the {split} split")
    from ..decoding import decode  # needs PIL, which other named sets do not
    from ..picture import white_of

    pictures = ((str(file), file) for file in files)
    findings = Findings()
    white = white_of(list, findings, 255)  # they are all JPEG
    return decode(directory, "celeba", pictures, [-1] * len(files), [], SIDE, 3, True, white, findings)


def _names_of(partition: Path, split: Split) -> list[str]:
    """Return a split's images from lines of a name and 0 (train), 1 (validation) or 2 (test)."""
    wanted, names = {"train": "0", "test": "2"}[split], []
    for number, line in enumerate(partition.read_text(errors="replace").splitlines(), 1):
        match line.split():
            case [name, "0" | "1" | "2" as part]:
                if part == wanted:
                    names.append(name)
            case []:
                pass
            case _:
                raise DataError(f"{partition}, line {number}: expected a file's name and 0, 1 or 2, got {line[:60]!r}")
    return names


CELEBA = NamedSet(_read, (3, SIDE, SIDE), "flwrlabs/celeba")
