"""The trainings of a comparison: each has a JSON of its own, and belongs to one process at a time."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ...files import write_atomically
from ...training import Run, TrainingError

__all__ = ["Entry", "Folder"]


@dataclass(frozen=True)
class Entry:
    """One training.

    Attributes:
        method: name of the model.
        latent: size of its latent vector.
        seed: of the training.
        updates: their number.
        learning_rate, activation: of the model.
        options: further options of the model that differ from the method's.
        kind: ``training``; ``search``, which trains and measures on training images only; or ``timing``.
    """

    method: str
    latent: int
    seed: int
    updates: int
    learning_rate: float
    activation: str
    options: dict[str, Any] = field(default_factory=dict)
    kind: Literal["training", "search", "timing"] = "training"

    @property
    def name(self) -> str:
        """Name of its files: what was trained, without the learning rate and activation that a search has chosen.

        Example:
            >>> Entry("vae", 64, 0, 1500, 1e-3, "silu", {"beta": 0.3}).name
            'vae-z64-seed0-1500-beta0.3'
        """
        if self.kind == "timing":
            return f"timing-{self.method}-z{self.latent}"
        words = [self.method, f"z{self.latent}", f"seed{self.seed}", str(self.updates)]
        words += [f"{name}{value}" for name, value in sorted(self.options.items())]
        return "-".join(
            ["search", *words, self.activation, f"{self.learning_rate:g}"] if self.kind == "search" else words
        )


class Folder:
    """The files of a comparison on one data set; several processes may work on it.

    Args:
        directory: has ``images.txt``, whose results they are; ``entries``, a JSON for each finished training; ``runs``;
            and ``locks``.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def run(self, name: str) -> Run:
        """Return the run directory of an entry."""
        return Run(self.directory / "runs" / name)

    def finished(self, name: str) -> bool:
        """Whether the entry has its JSON."""
        return self._path(name).is_file()

    def read(self, name: str, settings: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the content of a finished entry.

        Args:
            name: of the entry.
            settings: that it has to have; none for any.

        Raises:
            TrainingError: its settings are others, or its file cannot be read.
        """
        path = self._path(name)
        try:
            found: dict[str, Any] = json.loads(path.read_text())
        except ValueError as error:
            raise TrainingError(f"{path}: not a finished training ({error}); remove it") from None
        if settings is not None and found.get("settings") != json.loads(json.dumps(settings)):
            raise TrainingError(f"{path}: was trained with other settings; remove it or choose another --out")
        return found

    def timing(self, name: str) -> dict[str, float] | None:
        """Return a timing, see :func:`feature_alignment.reproduce.quality.timing.timed`; none if it is missing."""
        return self.read(name)["timing"] if self.finished(name) else None

    def write(self, name: str, content: dict[str, Any]) -> None:
        """Write the JSON of an entry atomically."""
        write_atomically(self._path(name), json.dumps(content, indent=1) + "\n")

    @contextmanager
    def claimed(self, name: str) -> Iterator[bool]:
        """Claim an entry for this process while the block runs; yield whether no other process has claimed it.

        The claim is a lock of the operating system on a file, which holds the process's number for the reader: the
        lock of a process that was killed is gone with it.
        """
        import fcntl  # not on Windows

        path = self.directory / "locks" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            file.truncate(0)
            file.write(f"{os.getpid()}\n")
            file.flush()
            yield True

    def _path(self, name: str) -> Path:
        return self.directory / "entries" / f"{name}.json"
