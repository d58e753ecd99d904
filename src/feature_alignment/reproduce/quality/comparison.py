"""The order of the trainings of a comparison, and the work on them by one or several processes."""

from __future__ import annotations

import dataclasses
import itertools
import shutil
import time
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

from ...models import Model
from ...training import Stopped, TrainingError
from ...training.fingerprint import fingerprint
from ...training.resuming import belongs_to
from .entries import Entry, Folder
from .measures import criterion, measure, principal_components, reference
from .samples import samplers_of, write_sheet
from .search import chosen, grid
from .settings import Method, QualityScale, plan
from .splits import Sets, Split
from .timing import timed
from .trial import facts, loaded, settings_of, train, without_nan

__all__ = ["PARTS", "Comparison", "Part"]

Part: TypeAlias = Literal["search", "table", "wall", "betas", "long"]
#: In the order of the work.
PARTS: tuple[Part, ...] = ("search", "table", "wall", "betas", "long")

#: Seconds between two looks at what other processes have finished.
PAUSE = 5.0

#: The model with whose time the others are compared.
BASELINE = "ae"


class Comparison:
    """One data set with its models and seeds.

    Args:
        data: name of a data set or a folder, see :func:`feature_alignment.data.load`.
        scale: ``smoke`` or ``cpu``.
        seeds: of the trainings in the table.
        out: directory; the files go to its folder named like the data set.
        models: names of those compared; by default all that this version has.
        latents: sizes in the table; by default the settings'.
        updates: of every training; by default the settings'.

    Raises:
        DataError: the data set cannot be loaded.
        TrainingError: a model that is unknown, or that this version does not have.
    """

    def __init__(
        self,
        data: str,
        scale: QualityScale,
        seeds: Sequence[int],
        out: Path,
        models: Sequence[str] = (),
        latents: Sequence[int] = (),
        updates: int | None = None,
    ) -> None:
        self.data, self.scale, self.seeds = data, scale, list(seeds)
        #: Name of the data set, without folders.
        self.name = (Path(data).resolve() if Path(data).is_dir() else Path(data)).name
        self.sets = Sets(data)
        found = plan(scale, self.sets.train.shape, models)
        self.plan = dataclasses.replace(
            found, latents=tuple(dict.fromkeys(latents)) or found.latents, updates=updates or found.updates
        )
        self.sets.images = self.plan.images
        self.folder = Folder(out / self.name)
        #: Reasons, by name, of the trainings that this process could not finish.
        self.failed: dict[str, str] = {}

    def method(self, entry: Entry) -> Method:
        """Return the model of an entry."""
        return self.plan.methods[entry.method]

    def split(self, entry: Entry) -> Split:
        """Return the images of an entry; those of the search are training images only."""
        return self.sets.table if entry.kind == "training" else self.sets.search

    def settings(self, entry: Entry) -> dict[str, Any]:
        """Return the settings of an entry."""
        return settings_of(entry, self.method(entry), self.plan.batch_size, self.split(entry))

    # --- the trainings --------------------------------------------------------------------------------------

    def entries(self, part: Part) -> Iterator[Entry]:
        """Yield the trainings of a part, as far as the searches that they depend on are finished."""
        for method in self.plan.methods.values():
            if part == "search":
                yield from grid(method, self.plan)
                continue
            best = chosen(method, self.plan, self.folder)
            if best is not None:
                yield from self._of(part, method, (best["learning_rate"], best["activation"]))

    def timing(self, method: Method, best: tuple[float, str]) -> Entry:
        """Return the timing of a model's update."""
        return Entry(method.name, self.plan.latent, 0, 0, *best, kind="timing")

    def updates_at(self, multiple: float, method: Method, best: tuple[float, str]) -> int | None:
        """Return the updates of a model in a multiple of the time of the autoencoder's; none before they are timed."""
        timed = self.folder.timing(self.timing(method, best).name)
        return None if timed is None else max(1, round(multiple * self.plan.updates / timed["ratio"]))

    def _at_wall_times(self, method: Method, best: tuple[float, str]) -> Iterator[Entry]:
        """Yield the trainings of one size at several wall times, and of all sizes and seeds at the autoencoder's."""
        yield self.timing(method, best)
        for multiple in self.plan.wall_times:
            updates = self.updates_at(multiple, method, best)
            latents, seeds = (self.plan.latents, self.seeds) if multiple == 1 else ((self.plan.latent,), self.seeds[:1])
            for latent, seed in itertools.product(latents, seeds if updates else []):
                yield Entry(method.name, latent, seed, updates or 0, *best)

    def _of(self, part: Part, method: Method, best: tuple[float, str]) -> Iterator[Entry]:
        plan = self.plan
        if part == "table":
            for seed in self.seeds:  # a first seed of all sizes before the second
                yield from (Entry(method.name, latent, seed, plan.updates, *best) for latent in plan.latents)
        if part == "wall" and method.criterion == "reconstruction_error" and self._baseline() is not None:
            yield from self._at_wall_times(method, best)
        if part == "betas" and _has_beta(method):
            for seed in self.seeds:
                for beta in plan.betas:
                    other = {} if beta == method.options["beta"] else {"beta": beta}
                    yield Entry(method.name, plan.latent, seed, plan.updates, *best, other)
        if part == "long":
            yield Entry(method.name, plan.latent, self.seeds[0], plan.long, *best)

    # --- the work -------------------------------------------------------------------------------------------

    def work(self, parts: Sequence[Part]) -> None:
        """Train and measure what is missing, beside other processes that do the same, until nothing is.

        Raises:
            TrainingError: a part that none of the models has; a folder of another data set's results; a training that
                failed.
        """
        self._refuse(parts)
        belongs_to(self.folder.directory, self.sets.train)
        while pending := [entry for entry in self._pending(parts) if entry.name not in self.failed]:
            if not any(self._work_on(entry) for entry in pending):
                time.sleep(PAUSE)  # other processes work on all of them
        if self.failed:
            name, reason = next(iter(self.failed.items()))
            raise TrainingError(f"{len(self.failed)} trainings failed, the first is {name}: {reason}")

    def _refuse(self, parts: Sequence[Part]) -> None:
        methods = self.plan.methods
        wanted = {
            "wall": (BASELINE in methods, f"{BASELINE}, with whose time the others are compared,"),
            "betas": (any(map(_has_beta, methods.values())), "a model whose search minimised the negative bound"),
        }
        for part in parts:
            there, what = wanted.get(part, (True, ""))
            if not there:
                raise TrainingError(f"--part {part}: expected {what} among --models, got {', '.join(methods)}")

    def _pending(self, parts: Sequence[Part]) -> list[Entry]:
        """Return the trainings that are not finished; those of a search come before what waits for it."""
        found: dict[str, Entry] = {}
        for part in parts if "search" in parts else ("search", *parts):
            found |= {entry.name: entry for entry in self.entries(part) if not self._finished(entry)}
        return list(found.values())

    def _finished(self, entry: Entry) -> bool:
        """Whether an entry is finished, with every measure that there is by now."""
        if not self.folder.finished(entry.name):
            return False
        measures = self.folder.read(entry.name, self.settings(entry)).get("measures")
        samplers = set(samplers_of(self.method(entry), self.split(entry).train))
        return not measures or ("reconstruction_error" in measures and samplers <= set(measures["classifier_fid"]))

    def _work_on(self, entry: Entry) -> bool:
        """Finish an entry; return whether it was, which is not so if another process has claimed it."""
        with self.folder.claimed(entry.name) as mine:
            if not mine:
                return False
            if not self._finished(entry):
                print(f"{self.name}: {entry.name}", flush=True)
                try:
                    self._finish(entry)
                except Stopped as stopped:
                    raise Stopped(f"{entry.name}: stopped", stopped.signal) from None
                except Exception as error:  # the others go on
                    traceback.print_exc()
                    self.failed[entry.name] = " ".join(str(error).split()) or type(error).__name__
        return True

    def _finish(self, entry: Entry) -> None:
        split, method, run = self.split(entry), self.method(entry), self.folder.run(entry.name)
        settings = self.settings(entry)
        if entry.kind == "timing":
            baseline = self._baseline()
            assert baseline is not None
            found = timed(settings, self.settings(baseline), split)
            self.folder.write(entry.name, {"settings": settings, "timing": found})
            return
        if self.folder.finished(entry.name):
            found = self.folder.read(entry.name, settings)
            found["measures"] = measure(loaded(settings, split, run), method, split, entry.seed, found["measures"])
            self.folder.write(entry.name, without_nan(found))
            return
        model, done = train(settings, split, run)
        found = {"name": entry.name, "data": self.name, "settings": settings, "training": done}
        if model is not None:
            found |= facts(model)
        if entry.kind == "search":
            found["criterion"] = None if model is None else criterion(method.criterion, model, split, entry.seed)
        else:
            found["measures"] = {} if model is None else self._measured(entry, model)
        self.folder.write(entry.name, without_nan(found))
        # The weights of the table's models are kept, for measures that are added later.
        shutil.rmtree(run.directory if entry.kind == "search" else run.checkpoint.parent, ignore_errors=True)

    def _measured(self, entry: Entry, model: Model) -> dict[str, Any]:
        method, split = self.method(entry), self.split(entry)
        write_sheet(model, method, split, entry.seed, self.folder.directory / "sheets" / f"{entry.name}.png")
        return measure(model, method, split, entry.seed, {})

    def _baseline(self) -> Entry | None:
        """Return the timing of the model with whose time the others are compared; none before its search is done."""
        method = self.plan.methods.get(BASELINE)
        best = None if method is None else chosen(method, self.plan, self.folder)
        if method is None or best is None:
            return None
        return self.timing(method, (best["learning_rate"], best["activation"]))

    def reference(self) -> dict[str, float]:
        """Return the measures of real images, taken once for the same images."""
        settings = {"train": fingerprint(self.sets.table.train), "held_out": fingerprint(self.sets.table.held_out)}
        found = self.folder.read("real-images") if self.folder.finished("real-images") else {}
        if found.get("settings") != settings:
            found = {"settings": settings, "measures": reference(self.sets.table)}
            self.folder.write("real-images", found)
        measures: dict[str, float] = found["measures"]
        return measures

    def principal_components(self) -> dict[int, float]:
        """Return the error of the linear map by number of latents, taken once for the same images."""
        name, sizes = "principal-components", list(self.plan.latents)
        settings = {
            "train": fingerprint(self.sets.table.train),
            "held_out": fingerprint(self.sets.table.held_out),
            "latents": sizes,
        }
        found = self.folder.read(name) if self.folder.finished(name) else {}
        if found.get("settings") != settings:
            errors = principal_components(self.sets.table, sizes)
            found = {"settings": settings, "errors": {str(size): error for size, error in errors.items()}}
            self.folder.write(name, found)
        return {int(size): error for size, error in found["errors"].items()}


def _has_beta(method: Method) -> bool:
    """Whether the curves over the weight of the KL divergence have a line for this model."""
    return "beta" in method.options and method.criterion == "elbo"
