"""The run directory of a training, and the names of its files."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..files import locked, read_yaml, write_atomically
from .fingerprint import fingerprint
from .options import TrainingError
from .sections import fault_of

if TYPE_CHECKING:
    from ..data import Images
    from ..models import Model

__all__ = ["Run"]


@dataclass(frozen=True)
class Run:
    """The run directory of one training and the paths of its files.

    Attributes:
        directory: of the run.
        own_code: whether the model may need modules of the user's own, which the configuration names and
            :meth:`model` imports; not so for a run that was downloaded.
    """

    directory: Path
    own_code: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "directory", Path(self.directory))

    @property
    def config(self) -> Path:
        """The configuration that the run was started with."""
        return self.directory / "config.yaml"

    @property
    def checkpoint(self) -> Path:
        """The newest checkpoint, from which ``--resume`` continues."""
        return self.directory / "checkpoints" / "last.ckpt"

    @property
    def checkpoints(self) -> list[Path]:
        """The checkpoints that there are, newest first, at most two."""
        return [path for path in (self.checkpoint, self.checkpoint.with_name("previous.ckpt")) if path.is_file()]

    @property
    def lock(self) -> Path:
        """The file that is locked while a training writes into the directory."""
        return self.directory / ".lock"

    @property
    def log(self) -> Path:
        """The losses, one line every few updates."""
        return self.directory / "log.csv"

    @property
    def images(self) -> Path:
        """What tells the images of either split from others, a line each."""
        return self.directory / "images.txt"

    def note_images(self, splits: Sequence[Images]) -> None:
        """Write down what tells the images of the training and of its test from others."""
        write_atomically(self.images, "".join(f"{each.split}: {fingerprint(each)}\n" for each in splits))

    def warn_of_other(self, images: Images) -> None:
        """Warn of a split of other images than those of the training, where these are known."""
        lines = self.images.read_text().splitlines() if self.images.is_file() else []
        before = dict(line.partition(": ")[::2] for line in lines).get(images.split)
        if before not in (None, now := fingerprint(images)):
            warnings.warn(
                f"{images.name}: its {images.split} images ({now}) are not those of {self.directory} ({before})",
                stacklevel=3,
            )

    @property
    def metrics(self) -> Path:
        """Metrics on held-out images."""
        return self.directory / "metrics.json"

    @property
    def report(self) -> Path:
        """The report, one page; the last file that a run writes."""
        return self.directory / "report.html"

    def exists(self) -> bool:
        """Whether a new training would overwrite more than what one that ended before its first checkpoint left."""
        left = {self.config, self.images, self.lock} if self.begun() else set()
        return self.directory.is_dir() and any(path not in left for path in self.directory.iterdir())

    def begun(self) -> bool:
        """Whether a training began to write here; a ``config.yaml`` alone may be the user's own."""
        return self.lock.is_file() or bool(self.checkpoints)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other trainings out of the directory, which is created.

        Raises:
            TrainingError: another training writes into the directory.
        """
        refusal = TrainingError(
            f"{self.directory}: another training is writing into it; wait for its end, or choose another directory"
        )
        with locked(self.lock, refusal):
            yield

    def settings(self) -> dict[str, Any]:
        """Return the run's configuration.

        Raises:
            TrainingError: there is none, or it cannot be read.
        """
        if not self.config.is_file():
            raise TrainingError(f"{self.directory}: not a run, there is no {self.config.name}")
        try:
            found = read_yaml(self.config)
        except ValueError as error:
            raise TrainingError(f"{self.config}: not a readable configuration ({error})") from None
        if fault := fault_of(found):
            raise TrainingError(f"{self.config}: not the configuration of a run: {fault}")
        return dict(found)

    def results(self) -> dict[str, Any]:
        """Return the metrics.

        Raises:
            TrainingError: they cannot be read.
        """
        try:
            return dict(json.loads(self.metrics.read_text()))
        except (ValueError, TypeError, RecursionError) as error:
            raise TrainingError(f"{self.metrics}: not the metrics of a run ({error})") from None

    def model(self) -> Model:
        """Load the trained model, in eval mode.

        Raises:
            TrainingError: the run has no model (yet), or a class or module of the user's own cannot be imported.
        """
        from ..models import Model
        from ..models.runs import model_of_run

        try:
            return model_of_run(self.directory) if self.own_code else Model.from_pretrained(self.directory)
        except FileNotFoundError as error:
            hint = "; it was not trained to its end, continue with --resume" if self.checkpoints else ""
            raise TrainingError(f"{error}{hint}") from None
        except ValueError as error:
            raise TrainingError(str(error)) from None

    def rows(self) -> list[dict[str, float]]:
        """Return the log, one dictionary of numbers per line."""
        from .log import read_rows

        return read_rows(self.log)
