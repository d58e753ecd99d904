"""The kinds of files: what is written, what reads it, and whether it was read past its header."""

from __future__ import annotations

import io
import json
import os
import re
import tarfile
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from feature_alignment.cli import train as train_command
from feature_alignment.cli.configuration import CONFIGS
from feature_alignment.cli.training import checked
from feature_alignment.data import DataOptions, TrainingData, load, read_image
from feature_alignment.data import hub as _hub  # noqa: F401 (imported once, before the processes are forked)
from feature_alignment.data.formats import formats
from feature_alignment.models import FA, Model
from feature_alignment.training import Run, TrainingOptions, fit

from . import images, models, sets
from .mutations import change_bytes

Files = dict[str, bytes]


@dataclass(frozen=True)
class Kind:
    """A kind of files.

    Attributes:
        name: of the kind.
        share: of all inputs, in a thousand.
        make: draws the files of an input, given its number.
        load: reads them from their folder; returns images or a model.
        past: whether the files in a folder are whole up to the end of their header.
        called: regular expression for what a refusal calls the files, besides their folder.
    """

    name: str
    share: int
    make: Callable[[np.random.Generator, int], Files]
    load: Callable[[Path], Any]
    past: Callable[[Path], Any]
    called: str = "$^"

    def count(self, inputs: int) -> int:
        return max(1, round(self.share * inputs / 1000))

    def write(self, folder: Path, number: int, seed: int) -> None:
        """Write an input."""
        rng = np.random.default_rng([seed, number, *self.name.encode()])
        for name, content in self.make(rng, number).items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)

    def read(self, folder: Path) -> None:
        """Read it, and check what is returned."""
        found = self.load(folder)
        if isinstance(found, torch.Tensor):
            assert found.dtype == torch.uint8
            assert found.shape[-3] in (1, 3)
            assert found.numel()

    def is_deep(self, folder: Path) -> bool:
        try:
            return bool(self.past(folder))
        except Exception:
            return False

    def names(self, line: str) -> bool:
        return re.search(self.called, line) is not None


def kinds(scratch: Path) -> list[Kind]:
    """Return all kinds, with whole files made in ``scratch``."""
    found = [_image(name, whole) for name, whole in images.whole_images().items()]
    return [*found, _bombs(), *_sets(), *_archives(), *_configurations(), *_models(scratch), _checkpoint(scratch)]


def _pick(rng: np.random.Generator, things: list[Any]) -> Any:
    return things[int(rng.integers(len(things)))]


def _image(name: str, whole: list[tuple[str, bytes]]) -> Kind:
    def make(rng: np.random.Generator, _: int) -> Files:
        ending, content = _pick(rng, whole)
        return {f"image.{ending}": images.change_image(rng, name, content, _pick(rng, whole)[1])}

    share = {"PNG": 60, "JPEG": 40, "TIFF": 60, "GIF": 25, "BMP": 20, "WEBP": 20, "DDS": 25, "BLP": 20}.get(name, 8)
    return Kind(f"image {name}", share, make, _read_image, _opened)


def _read_image(folder: Path) -> torch.Tensor:
    return read_image(next(folder.glob("image.*")), 32, 3)


def _opened(folder: Path) -> bool:
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = None
    with Image.open(next(folder.glob("image.*")), formats=formats()) as picture:
        return picture.width > 0


def _bombs() -> Kind:
    def make(_: np.random.Generator, number: int) -> Files:
        ending, made = images.BOMBS[number % len(images.BOMBS)]
        return {f"image.{ending}": made()}

    return Kind("image bombs", 3, make, _read_image, _opened)


def _sets() -> list[Kind]:
    digits, batches = sets.digits(), sets.batches()
    parquets = [sets.parquet(each) for each in ("none", "snappy", "gzip")]

    def idx(rng: np.random.Generator, number: int) -> Files:
        if number == 0:
            name = "train-images-idx3-ubyte"
            bomb = sets.gzip_bomb(digits[name][:16], 3 * 2**10)
            return {"mnist/train-labels-idx1-ubyte": digits["train-labels-idx1-ubyte"], f"mnist/{name}.gz": bomb}
        return {f"mnist/{name}": content for name, content in sets.change_digits(rng, digits).items() if content}

    def cifar(rng: np.random.Generator, _: int) -> Files:
        name = _pick(rng, list(batches))
        files = {**batches, name: change_bytes(rng, batches[name], b"", 3)}
        return {f"cifar-10-batches-py/{each}": content for each, content in files.items()}

    def parquet(rng: np.random.Generator, _: int) -> Files:
        return {"set/train.parquet": sets.change_parquet(rng, _pick(rng, parquets))}

    return [
        Kind("IDX", 60, idx, _named("mnist"), _idx_magic),
        Kind("pickled batches", 20, cifar, _named("cifar10"), _pickled),
        Kind("parquet", 20, parquet, lambda folder: load(str(folder / "set"), "train").pixels, _footer),
    ]


def _named(name: str) -> Callable[[Path], torch.Tensor]:
    def read(folder: Path) -> torch.Tensor:
        os.environ["FALIGN_DATA"] = str(folder)
        return load(name, "train").pixels

    return read


def _idx_magic(folder: Path) -> bool:
    import gzip

    for path in (folder / "mnist").iterdir():
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            if file.read(3) != b"\0\0\x08":
                return False
    return True


def _pickled(folder: Path) -> bool:
    return all(path.read_bytes().startswith(b"\x80\2}(U\4datac") for path in (folder / "cifar-10-batches-py").iterdir())


def _footer(folder: Path) -> bool:
    import pyarrow.parquet as pq

    return pq.read_metadata(folder / "set" / "train.parquet").num_rows >= 0


def _archives() -> list[Kind]:
    found = [
        Kind(f"archive {kind}", share, lambda rng, _, kind=kind: {f"set.{kind}": sets.change_archive(rng, kind)},
             _read_archive, _listed)  # type: ignore[misc]
        for kind, share in (("zip", 50), ("tar", 50), ("tar.gz", 15), ("tar.bz2", 8), ("tar.xz", 8))
    ]  # fmt: skip

    def bomb(_: np.random.Generator, number: int) -> Files:
        kind, made = sets.BOMBS[number % len(sets.BOMBS)]
        return {f"set.{kind}": made()}

    return [*found, Kind("archive bombs", 2, bomb, _read_archive, lambda _: True)]


def _read_archive(folder: Path) -> torch.Tensor:
    return load(str(next(folder.glob("set.*"))), "train", image_size=8).pixels


def _listed(folder: Path) -> bool:
    path = next(folder.glob("set.*"))
    if path.suffix == ".zip":
        return bool(zipfile.ZipFile(path).namelist())
    with tarfile.open(path) as archive:
        return archive.next() is not None


def _configurations() -> list[Kind]:
    whole = [path.read_bytes() for path in sorted(CONFIGS.rglob("*.yaml")) if "quality" not in path.parts]

    def config(rng: np.random.Generator, _: int) -> Files:
        return {"config.yaml": models.change_text(rng, _pick(rng, whole), _pick(rng, whole), as_yaml=True)}

    def parsed(folder: Path) -> bool:
        return isinstance(yaml.safe_load((folder / "config.yaml").read_text()), dict)

    return [
        Kind(
            "YAML of a training",
            100,
            config,
            _parsed,
            parsed,
            r"config.yaml|^--(data|training|model)|--model$|--model \(",
        ),
        Kind("YAML of a run", 20, config, lambda folder: Run(folder).settings(), parsed),
    ]


def _parsed(folder: Path) -> None:
    """Parse a configuration as ``falign train --config`` does, and check the options that need no data."""
    found = train_command.parse(["--config", str(folder / "config.yaml")])
    checked(found.typed.instantiate(found.sections))


def _models(scratch: Path) -> list[Kind]:
    whole = models.whole_models(scratch / "models")

    def config(rng: np.random.Generator, _: int) -> Files:
        files, other = _pick(rng, whole), _pick(rng, whole)
        return {
            **files,
            "config.json": models.change_text(rng, files["config.json"], other["config.json"], as_yaml=False),
        }

    def weights(rng: np.random.Generator, _: int) -> Files:
        files, other = _pick(rng, whole), _pick(rng, whole)
        name = "model.safetensors"
        return {**files, name: models.change_weights(rng, files[name], other[name])}

    return [
        Kind("config.json", 100, config, lambda folder: Run(folder).model(), _is_object),
        Kind("safetensors", 80, weights, lambda folder: Run(folder).model(), _has_header),
    ]


def _is_object(folder: Path) -> bool:
    return "arguments" in json.loads((folder / "config.json").read_text())


def _has_header(folder: Path) -> bool:
    with (folder / "model.safetensors").open("rb") as file:
        return isinstance(json.loads(file.read(int.from_bytes(file.read(8), "little"))), dict)


def _checkpoint(scratch: Path) -> Kind:
    data = TrainingData(DataOptions("mnist-mini", 8, 8))
    options = TrainingOptions(steps=4, accelerator="cpu", devices=1, checkpoint_every=2)

    def model() -> Model:
        return FA((1, 8, 8), latent=3, channels=(4,), width=8, classes=data.classes)

    torch.manual_seed(0)
    fit(model(), data, Run(scratch / "run"), options)
    whole, other = ((scratch / "run" / "checkpoints" / f"{name}.ckpt").read_bytes() for name in ("last", "previous"))

    def resumed(folder: Path) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fresh = model()
            fresh.fit_samplers = lambda *_: None  # type: ignore[method-assign]  # takes longer than all of the rest
            fit(fresh, data, Run(folder), options, resume=True)

    def unpacked(folder: Path) -> bool:
        content = (folder / "checkpoints" / "last.ckpt").read_bytes()
        return any(name.endswith("data.pkl") for name in zipfile.ZipFile(io.BytesIO(content)).namelist())

    return Kind(
        "checkpoint", 60, lambda rng, _: {"checkpoints/last.ckpt": models.change_checkpoint(rng, whole, other)},
        resumed, unpacked,
    )  # fmt: skip
