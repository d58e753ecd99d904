"""The directory of a training: every file in it is named here, and nowhere else."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .options import TrainingError

if TYPE_CHECKING:
    from ..models import Model

__all__ = ["Run"]


@dataclass(frozen=True)
class Run:
    """The directory of one training and the places in it."""

    directory: Path

    @property
    def config(self) -> Path:
        """What ``falign train`` was asked to do."""
        return self.directory / "config.yaml"

    @property
    def checkpoint(self) -> Path:
        """The newest checkpoint, from which ``--resume`` goes on."""
        return self.directory / "checkpoints" / "last.ckpt"

    @property
    def log(self) -> Path:
        """The losses, a line every few updates."""
        return self.directory / "log.csv"

    @property
    def metrics(self) -> Path:
        """What was measured on held-out images."""
        return self.directory / "metrics.json"

    @property
    def report(self) -> Path:
        """Everything on one page; what a run writes last."""
        return self.directory / "report.html"

    def exists(self) -> bool:
        """Whether something is there that a new training would overwrite; a configuration alone is nothing yet."""
        return self.directory.is_dir() and any(path != self.config for path in self.directory.iterdir())

    def settings(self) -> dict[str, Any]:
        """Return the run's configuration.

        Raises:
            TrainingError: there is none, or it cannot be read.
        """
        import yaml

        if not self.config.is_file():
            raise TrainingError(f"{self.directory}: not a run, there is no {self.config.name}")
        try:
            found = yaml.safe_load(self.config.read_text())
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            reason = " ".join(str(error).split())
            raise TrainingError(f"{self.config}: not a readable configuration ({reason})") from None
        if not isinstance(found, dict):
            raise TrainingError(f"{self.config}: not the configuration of a run, but {type(found).__name__}")
        return found

    def results(self) -> dict[str, Any]:
        """Return what was measured."""
        found: dict[str, Any] = json.loads(self.metrics.read_text())
        return found

    def model(self) -> Model:
        """Load the trained model, in eval mode.

        Raises:
            TrainingError: the run has no model (yet).
        """
        from ..models import Model

        try:
            return Model.from_pretrained(self.directory)
        except (FileNotFoundError, ValueError) as error:
            hint = "; it was not trained to its end, continue with --resume" if self.checkpoint.is_file() else ""
            raise TrainingError(f"{error}{hint}") from None

    def rows(self) -> list[dict[str, float]]:
        """Return the log, a dictionary of numbers a line."""
        from .log import read_rows

        return read_rows(self.log)
