"""The searches of ``falign invert``: batches of images, and feature visualisation."""

from __future__ import annotations

import re
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

from ..core.inversion import Inversion, Maximum, Variables, invert, maximise
from ..core.pullback import Chain, any_batch
from ..core.structures import Network
from ..networks import LoadedNetwork, read_images
from ..networks.parts import class_scores, device_of, first_tensor, layer_of, outputs_of, variables_of
from ..progress import Progress
from ..report import sheets
from .errors import UsageError, one_line
from .runs import label_of

__all__ = ["SIDE", "PreImage", "Search", "draw_pair", "search_of"]

#: Images in pictures are enlarged to about so many pixels.
SIDE = 224


@dataclass(frozen=True)
class PreImage:
    """An image and what was found, both of shape ``(C, H, W)``."""

    path: Path
    photo: Tensor
    found: Tensor
    residual: float
    evaluations: int

    @property
    def line(self) -> str:
        """The numbers in words."""
        return f"{self.path.name}: residual {self.residual:.3g} after {self.evaluations:,} evaluations"


@dataclass(frozen=True)
class Search:
    """What is asked for.

    Attributes:
        loaded: the network.
        part: the network whose output is matched or maximised.
        unit: of that output; all of them, if none.
        what: the part in words.
        variables: to search in.
        options: the command's.
    """

    loaded: LoadedNetwork
    part: Network
    unit: int | None
    what: str
    variables: str | Variables
    options: Namespace

    @property
    def slug(self) -> str:
        """What is matched, as a part of a file's name."""
        return re.sub(r"[^\w.-]+", "-", self.what).strip("-")

    @property
    def start(self) -> Tensor | None:
        """Where searches begin: the mean image or latent of fitted variables, otherwise grey."""
        if isinstance(self.variables, Variables) and self.variables.start is not None:
            return None
        return torch.full((1, *self.loaded.image_shape), 0.5, device=device_of(self.loaded))

    def batches(self, files: Sequence[Path], among: Sequence[Path] | None = None) -> Iterator[list[PreImage]]:
        """Yield the pre-images of files, some at a time, and print their numbers; broken files are skipped.

        Args:
            files: to read.
            among: all that are compared, as of :func:`~feature_alignment.networks.read_images`.

        Raises:
            UsageError: the network cannot be inverted.
        """
        images, budget = read_images(files, self.loaded, among), self.options.evaluations
        with Progress("inverting", len(files) * budget, unit="evaluation", delay=1) as bar:
            done = 0
            while batch := list(islice(images, self.options.batch_size)):
                counter = _Counter(bar, done * budget, (done + len(batch)) * budget)
                found = self._inverted(torch.stack([each for _, each in batch]), counter)
                done += len(batch)
                bar.update(done * budget)
                pairs = [_pre_image(*pair, found, index) for index, pair in enumerate(batch)]
                for each in pairs:
                    bar.print(each.line)
                yield pairs

    def _inverted(self, images: Tensor, counter: _Counter) -> Inversion:
        options, images = self.options, images.to(device_of(self.loaded))
        with _explained(self.what):
            return invert(
                Chain([counter, any_batch(self.part)]),
                outputs_of(self.part, images),
                self.start,
                options.tolerance,
                options.evaluations,
                variables=self.variables,
                units=self.unit,
                jitter=options.jitter,
                seed=options.seed,
            )

    def maximised(self) -> Maximum:
        """Return the picture that excites the unit most."""
        with _explained(self.what):
            return maximise(self.part, self.start, self.options.evaluations, units=self.unit, variables=self.variables)


def search_of(loaded: LoadedNetwork, options: Namespace) -> Search:
    """Return the search that the options ask for.

    Raises:
        NetworkError, UsageError: an unknown layer, unit, class or kind of variables.
    """
    variables = variables_of(options.variables, loaded)
    if options.label:
        part = class_scores(loaded)
        unit = _class(loaded, options.label, part)
        names = loaded.class_names
        return Search(loaded, part, unit, f"class {names[unit] if names else unit}", variables, options)
    part = layer_of(loaded, options.layer)
    what = options.layer or "output"
    if options.unit is None:
        return Search(loaded, part, None, what, variables, options)
    return Search(loaded, first_tensor(loaded, part), options.unit, f"{what} unit {options.unit}", variables, options)


def _class(loaded: LoadedNetwork, wanted: str, scores: Network) -> int:
    if loaded.class_names:
        return label_of(wanted, loaded.class_names)
    count = outputs_of(scores, torch.full((1, *loaded.image_shape), 0.5, device=device_of(loaded))).shape[1]
    if not wanted.isdecimal() or int(wanted) >= count:
        raise UsageError(
            f"--class {wanted}: {loaded.name} has {count} classes without names; expected 0 to {count - 1}"
        )
    return int(wanted)


@dataclass
class _Counter:
    """Shows progress: the identity on the network's inputs, which counts a forward and a backward pass for each."""

    bar: Progress
    done: int
    limit: int

    def __call__(self, x: Tensor) -> Tensor:
        self.done = min(self.limit, self.done + 2 * len(x))
        self.bar.update(self.done)
        return x


def _pre_image(path: Path, photo: Tensor, found: Inversion, index: int) -> PreImage:
    numbers = float(found.residual[index]), int(found.evaluations[index])
    return PreImage(path, photo, found.input[index].detach().cpu(), *numbers)


def draw_pair(found: PreImage, what: str, path: Path) -> None:
    """Draw the photograph and, beside it, what the part of that name keeps of it."""
    pair = torch.stack([found.photo, found.found])[None]
    sheets.grid(pair, path, title=found.line, columns=["photograph", what], least=SIDE)


@contextmanager
def _explained(what: str) -> Iterator[None]:
    """Give what the core refuses, or PyTorch cannot do, as one line with the part's name."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except (TypeError, ValueError, RuntimeError, IndexError) as error:
        raise UsageError(f"{what}: {one_line(error)}") from error
