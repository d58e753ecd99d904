"""The trainings behind the tables and figures, each run once, continued if interrupted, and reused."""

from __future__ import annotations

import dataclasses
import functools
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from lightning_fabric import seed_everything

from .. import models
from ..data import DataOptions, TrainingData, load
from ..metrics import Inception
from ..models.model import Model
from ..report.run_report import write_report
from ..training import Run, TrainingError, TrainingOptions, fit
from ..training.resuming import belongs_to
from .settings import Scale, Setting, paper_set, setting

__all__ = ["Cell", "Study", "cell"]

#: A number over seeds: ``values``, one a seed, their ``mean`` and sample standard deviation ``std`` (none for one).
Cell = dict[str, Any]


def cell(values: Sequence[float]) -> Cell:
    """Summarise the values of a measure, one per seed."""
    deviation = statistics.stdev(values) if len(values) > 1 else None
    return {"values": list(values), "mean": statistics.fmean(values), "std": deviation}


class Study:
    """One data set at one scale with its seeds, and the models trained on it.

    Args:
        data: name of a data set or a folder, see :func:`feature_alignment.data.load`.
        scale: ``smoke``, ``cpu`` or ``paper``, see :mod:`feature_alignment.reproduce.settings`.
        seeds: of the trainings.
        out: directory for the runs, ``runs/DATA/MODEL-seedN``, and the results, ``DATA``.
        inception: feature extractor of FID and KID; none leaves them out.

    Raises:
        DataError: the data set cannot be loaded.
        TrainingError: ``out`` has trainings on another data set of the same name.
    """

    def __init__(
        self, data: str, scale: Scale, seeds: Sequence[int], out: Path, inception: Inception | None = None
    ) -> None:
        self.data, self.scale, self.seeds, self.inception = data, scale, list(seeds), inception
        self.train, self.test = load(data, "train"), load(data, "test")
        #: Name of the data set, without folders.
        self.name = (Path(data).resolve() if Path(data).is_dir() else Path(data)).name
        #: The data set of the paper with which this one is compared.
        self.like = paper_set(self.name, self.train.shape)
        self.directory = out / self.name
        self.runs = out / "runs" / self.name
        self.directory.mkdir(parents=True, exist_ok=True)
        self.runs.mkdir(parents=True, exist_ok=True)
        belongs_to(self.runs, self.train)

    def setting(self, model: str) -> Setting:
        """Return the setting of a model's training."""
        return setting(model, self.scale, self.name, self.train.shape, len(self.train))

    @functools.cache  # noqa: B019 (a study lives as long as the command)
    def run(self, name: str, seed: int) -> Run:
        """Return the finished run of a model and seed; train it, or continue its training, if necessary.

        Raises:
            TrainingError: the run's directory has a training with other settings.
        """
        chosen = self.setting(name)
        run = Run(self.runs / f"{name}-seed{seed}")
        options = TrainingOptions(
            steps=chosen.steps, seed=seed, devices=1, log_every=min(10, chosen.steps), checkpoint_every=250
        )
        asked = {
            "data": {"name": self.data, "batch_size": chosen.batch_size, "labels": chosen.labels},
            "training": dataclasses.asdict(options),
            "model": {"class_path": f"feature_alignment.models.{chosen.model}", "init_args": chosen.options},
        }
        if run.exists() and run.settings() != asked:
            raise TrainingError(f"{run.directory}: was trained with other settings; remove it or choose another --out")
        if run.report.is_file():  # what a run writes last
            print(f"{name}, seed {seed}: trained before, {run.directory}", flush=True)
            before = run.results()
            if self.inception is not None and "classifier_fid" in before and "fid" not in before:
                print(f"{name}, seed {seed}: measured again, with FID", flush=True)
                self._report(run, run.model(), before, seed, chosen.images)
            return run

        print(f"{name}, seed {seed}: {chosen.steps:,} steps of {chosen.batch_size} images, {run.directory}", flush=True)
        seed_everything(seed, verbose=False)
        data = TrainingData(DataOptions(**asked["data"]))
        classes = {"classes": data.classes} if data.classes else {}
        model: Model = getattr(models, chosen.model)(image_shape=data.image_shape, **classes, **chosen.options)
        run.directory.mkdir(parents=True, exist_ok=True)
        run.config.write_text(yaml.safe_dump(asked, sort_keys=False))
        done = fit(model, data, run, options, resume=run.checkpoint.is_file())
        self._report(run, model, done, seed, chosen.images)
        return run

    def _report(self, run: Run, model: Model, training: dict[str, Any], seed: int, limit: int) -> None:
        model.to("cuda" if torch.cuda.is_available() else "cpu")
        write_report(run, model, self.train, self.test, training, seed, limit=limit, inception=self.inception)

    @functools.cache  # noqa: B019
    def model(self, name: str) -> Model:
        """Return the trained model of the first seed."""
        return self.run(name, self.seeds[0]).model()

    def metrics(self, model: str) -> list[dict[str, Any]]:
        """Return the metrics of a model, one dictionary per seed."""
        return [self.run(model, seed).results() for seed in self.seeds]

    def measure(self, model: str, name: str, stage: str) -> Cell | None:
        """Return one measure over the seeds; none if it is missing for a seed."""
        found = [metrics[name][stage] for metrics in self.metrics(model) if stage in metrics.get(name, {})]
        return cell(found) if len(found) == len(self.seeds) else None
