"""Pre-images in a folder, with a record of how each was made, so that a search can be taken up again."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..core.inversion import Variables
from ..core.structures import tensors
from ..files import locked, write_atomically
from ..networks import LoadedNetwork, image_files
from ..networks.parts import device_of, outputs_of
from .errors import UsageError
from .outputs import free_name, names_taken, refuse_overwriting
from .pre_images import PreImage, Search, draw_pair

__all__ = ["fill"]

RECORD, LOCK = "inversions.json", ".lock"
#: Options that change nothing in a picture.
ELSEWHERE = {"images", "out", "device", "batch_size"}
#: Settings that a picture has a name of its own for; with others of the rest it is replaced.
NAMED = ("part", "network", "digest")


def fill(search: Search, files: Sequence[str], folder: Path) -> None:
    """Write a picture of each image into a folder; those that are there, made in the same way, are kept.

    Raises:
        UsageError: another process writes into the folder, or a picture would replace one of the images.
    """
    refusal = UsageError(f"{folder}: another search is writing into it; wait for its end, or choose another folder")
    with locked(folder / LOCK, refusal):
        _fill(search, files, folder)


def _fill(search: Search, files: Sequence[str], folder: Path) -> None:
    record, settings = Record(folder), _settings(search)
    paths = image_files(files)
    names = dict(zip(paths, record.names(paths, settings), strict=True))
    missing = [path for path in paths if not record.has(names[path], path, settings)]
    refuse_overwriting("--out", folder, [folder / names[path] for path in missing], paths)
    if kept := len(paths) - len(missing):
        print(f"Kept {kept} of {len(paths)} pictures in {folder}, made before with the same settings")
    done = 0
    for batch in search.batches(missing, paths):
        for each in batch:
            draw_pair(each, search.what, folder / names[each.path])
            record.add(names[each.path], each, settings)
        done += len(batch)
    if not kept and not done:
        raise UsageError(f"images: none of the {len(paths)} can be read")
    print(f"Wrote {done} pictures to {folder}")


class Record:
    """The file that says of every picture in a folder how it was made.

    Args:
        folder: of the pictures.

    Raises:
        UsageError: the file cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.path = folder, folder / RECORD
        self.entries: dict[str, Any] = {}
        if self.path.exists():
            try:
                self.entries = dict(json.loads(self.path.read_text()))
            except (ValueError, TypeError) as error:
                raise UsageError(f"{self.path}: not a record of pictures ({error}); remove it to start anew") from None

    def names(self, paths: Sequence[Path], settings: dict[str, Any]) -> list[str]:
        """Return a file name for each image: the one it has already, or one that nothing else in the folder has."""
        taken = names_taken(self.folder)
        found = []
        for path in paths:
            name = self._own(path, settings) or free_name(f"{path.stem}-{settings['part']}", taken)
            taken.add(name.casefold())
            found.append(name)
        return found

    def _own(self, path: Path, settings: dict[str, Any]) -> str | None:
        image, wanted = str(path.resolve()), [settings[each] for each in NAMED]
        for name, entry in self.entries.items():
            if entry["image"] == image and [entry["settings"][each] for each in NAMED] == wanted:
                return name
        return None

    def has(self, name: str, path: Path, settings: dict[str, Any]) -> bool:
        """Whether the picture is there, made from the same image with the same settings."""
        entry = self.entries.get(name)
        return (
            entry is not None
            and (self.folder / name).is_file()
            and entry["settings"] == settings
            and entry["sha256"] == _digest_of(path)
        )

    def add(self, name: str, found: PreImage, settings: dict[str, Any]) -> None:
        """Note how a picture was made, and write the file."""
        self.entries[name] = {
            "image": str(found.path.resolve()),
            "part": settings["part"],
            "sha256": _digest_of(found.path),
            "residual": found.residual,
            "evaluations": found.evaluations,
            "settings": settings,
        }
        write_atomically(self.path, json.dumps(self.entries, indent=1) + "\n")


def _digest_of(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""


def _settings(search: Search) -> dict[str, Any]:
    """Return all that a picture depends on but its image; of the network and of fitted variables a digest."""
    found = {name: value for name, value in vars(search.options).items() if name not in ELSEWHERE}
    found |= {"part": search.slug, "shape": list(search.loaded.image_shape), "digest": _of_network(search.loaded)}
    if isinstance(search.variables, Variables) and search.variables.start is not None:
        found["fitted"] = _digest([search.variables.forward(search.variables.start + 1)])
    return found


def _of_network(loaded: LoadedNetwork) -> str:
    """Return a digest of the weights, or of an output where they cannot be listed."""
    if isinstance(loaded.module, nn.Module):
        return _digest(loaded.module.state_dict().values())
    shape = loaded.image_shape
    example = torch.linspace(0, 1, math.prod(shape), device=device_of(loaded)).view(1, *shape)
    return _digest(tensors(outputs_of(loaded.module, example)))


def _digest(parts: Iterable[Tensor]) -> str:
    digest = hashlib.sha256()
    for each in parts:
        digest.update(each.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
