"""Shared by the commands that use a trained model: its run, its data, its classes, and the images to process."""

from __future__ import annotations

import unicodedata
from argparse import Namespace
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_type_hints

from .errors import UsageError, one_line
from .parser import Parser, nearest, path, seed

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from ..data import Images
    from ..models import Model
    from ..training import Run

__all__ = [
    "RUN",
    "check_suits",
    "data_folder",
    "data_of",
    "device_of",
    "distinct",
    "existing_run",
    "inputs_of",
    "label_of",
    "labels_of",
    "model_of",
    "read_images",
    "run_parser",
    "use_sampler",
]

#: Of more classes, only the nearest is named.
MOST_NAMED = 40
#: Help of the argument that names a run.
RUN = "run directory of a finished training, or owner/name of a model on the Hugging Face Hub"


def run_parser(command: str) -> Parser:
    """Return a parser whose first argument is a run, with ``--device`` and ``--seed``."""
    parser = Parser(command)
    parser.add_argument("run", type=path, help=RUN)
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, mps, ... (default: %(default)s)")
    parser.add_argument("--seed", type=seed, default=0, help="of all random numbers (default: %(default)s)")
    return parser


def model_of(run: Run, options: Namespace) -> Model:
    """Return the run's model on the device asked for, with PyTorch's random numbers seeded.

    Raises:
        UsageError: there is no such device here.
        TrainingError: the run has no model (yet).
    """
    import torch

    torch.manual_seed(options.seed)
    return run.model().to(device_of(options.device))


def device_of(name: str) -> torch.device:
    """Return a device by its name, after a test that it can be used.

    Raises:
        UsageError: there is no such device here.
    """
    import torch

    try:
        return torch.zeros((), device=torch.device(name)).device
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UsageError(f"--device {name}: cannot be used here; cpu always can ({reason})") from None


def use_sampler(model: Model, name: str | None) -> None:
    """Let samples be drawn with another sampler than the run's own, if one is named.

    Raises:
        UsageError: an unknown sampler, or one that was not fitted.
    """
    if name is None:
        return
    try:
        model.samplers.choose(name)
    except ValueError as error:
        raise UsageError(f"--{error}") from None
    model.samplers.used = name


def existing_run(name: str, *, local: bool = False) -> Run:
    """Return the run of a directory or, unless ``local``, of a repository on the Hugging Face Hub, from its cache.

    Raises:
        UsageError: there is no such directory; the message lists the existing runs.
        FileNotFoundError: the repository cannot be fetched.
    """
    from ..models.hub import download, is_repository
    from ..training import Run

    directory = Path(name)
    if not local and not directory.is_dir() and is_repository(name):
        return Run(download(name), own_code=False)
    if not directory.is_dir():
        others = sorted(str(path.parent) for path in Path("runs").glob("*/config.yaml"))
        hint = f"; the runs here are {', '.join(others)}" if others else "; `falign quickstart` makes one"
        raise UsageError(f"{name}: no such run directory{hint}")
    return Run(directory)


def data_of(run: Run, model: Model, split: Literal["train", "test"], name: str = "") -> Images:
    """Load a split of the data set that the run was trained on, or of another one brought to its shape and white.

    Raises:
        UsageError: the run's configuration does not name it, or has values of another type.
        DataError: it cannot be loaded.
    """
    from ..data import DATA_SETS, DataError, load

    settings = _data_settings(run)
    if not name and "name" not in settings:
        raise UsageError(f"{run.config}: data.name is missing")
    asked = name or settings["name"]
    columns: dict[str, Any] = {} if name else {column: settings.get(column) for column in ("image", "label", "config")}
    try:
        found = load(
            asked,
            split,
            image_size=model.image_shape[1] if name else settings.get("image_size"),
            channels=model.image_shape[0] if name else settings.get("channels"),
            white=model.white or settings.get("white"),
            **columns,
        )
    except DataError as error:
        if name or asked in DATA_SETS or asked.startswith("hf:") or Path(asked).expanduser().exists():
            raise
        raise DataError(f"{run.config}: data.name, which is looked for from {Path.cwd()}: {error}") from None
    if not name:
        run.warn_of_other(found)
    return found


def _data_settings(run: Run) -> dict[str, Any]:
    from ..data import DataOptions

    settings: dict[str, Any] = run.settings().get("data", {})
    kinds = get_type_hints(DataOptions)
    for option, value in settings.items():
        expected = kinds.get(option, object)
        if not isinstance(value, expected) and not (isinstance(value, int) and option == "white"):
            words = getattr(expected, "__name__", None) if isinstance(expected, type) else str(expected)
            raise UsageError(f"{run.config}: data.{option}: expected {words}, got {one_line(value)}")
    return settings


def labels_of(model: Model, wanted: list[str]) -> Tensor:
    """Return the labels of classes given by name or number, int64 of shape ``(len(wanted),)``.

    An exact match comes first, then a unique match that ignores case, then the number.

    Raises:
        UsageError: one of them is not a class of the model.
    """
    import torch

    if not model.classes:
        raise UsageError(f"class {wanted[0]!r}: this {type(model).__name__} was trained without classes")
    return torch.tensor([label_of(name, model.class_names) for name in wanted])


def label_of(wanted: str, names: Sequence[str]) -> int:
    """Return the number of a class given by name, by the first of the names that are separated by commas, or by number.

    Raises:
        UsageError: there is no such class, or several.

    Example:
        >>> label_of("Cat", ["dog", "cat, tabby"]), label_of("0", ["dog", "cat, tabby"])
        (1, 0)
    """
    known, asked = [unicodedata.normalize("NFC", name) for name in names], unicodedata.normalize("NFC", wanted)
    similar = [label for label, name in enumerate(known) if name == asked]
    similar = similar or _similar(asked, known) or _similar(asked, [name.partition(",")[0] for name in known])
    if len(similar) > 1:
        named = [known[label] for label in similar]
        if len(set(named)) < len(named):  # as two of ImageNet's classes are called crane
            raise UsageError(f"class {wanted!r}: is the name of {' and '.join(map(str, similar))}; give the number")
        raise UsageError(f"class {wanted!r}: which, {' or '.join(names[label] for label in similar)}?")
    if similar:
        return similar[0]
    if wanted.isdecimal() and int(wanted) < len(names):
        return int(wanted)
    if len(names) > MOST_NAMED:
        raise UsageError(f"class {wanted!r}: none of the {len(names)} classes{nearest(wanted, names)}")
    raise UsageError(f"class {wanted!r}: expected one of {', '.join(names)}")


def _similar(asked: str, known: Sequence[str]) -> list[int]:
    return [label for label, name in enumerate(known) if name.casefold() == asked.casefold()]


def read_images(
    run: Run, model: Model, files: list[str], count: int, negative: bool
) -> tuple[Tensor, Tensor | None, list[str]]:
    """Return images, their labels where they are known, and their names.

    Args:
        run: provides held-out images if there are no ``files``.
        model: the images are resized to its image shape.
        files: image files.
        count: number of held-out images.
        negative: swap dark and light.
    """
    images, labels, names = _from_files(model, files) if files else _held_out(run, model, count)
    images = images.to(model.dtype)
    return 1 - images if negative else images, labels, names


def data_folder(run: Run, place: Path) -> list[str]:
    """Return the folders of the run's data set, if it has any, unless the place is in the run's own directory."""
    if not run.config.is_file() or place.resolve().is_relative_to(run.directory.resolve()):
        return []
    from ..data import folders_read

    return [*map(str, folders_read(str(_data_settings(run).get("name", ""))))]


def inputs_of(run: Run, files: list[str], outputs: Iterable[Path]) -> Sequence[str | Path]:
    """Return the files that are read, or, if none are named, those outputs that are files of the run's data set."""
    if files:
        return files
    there = [each for each in outputs if each.is_file()]
    return [
        each for each in there for folder in data_folder(run, each) if Path(folder).resolve() in each.resolve().parents
    ]


def check_suits(model: Model, images: Images) -> None:
    """Raise a UsageError unless a data set has the images and the classes that a model was trained on."""
    if images.shape != model.image_shape:
        raise UsageError(f"--data {images.name}: images of shape {images.shape}, the model has {model.image_shape}")
    if not model.classes:
        return
    if images.labels is None or len(images.classes) != model.classes:
        raise UsageError(
            f"--data {images.name}: {len(images.classes)} classes, the model was built for {model.classes}"
        )
    if images.classes != model.class_names:
        raise UsageError(
            f"--data {images.name}: has the classes {', '.join(images.classes)}; the model was trained on "
            f"{', '.join(model.class_names)}"
        )


def _from_files(model: Model, files: list[str]) -> tuple[Tensor, None, list[str]]:
    import torch

    from ..data import ImageReader

    channels, side, _ = model.image_shape
    pixels = torch.stack([*map(ImageReader(files, side, channels, model.white), files)])
    return pixels.float() / 255, None, distinct(files)


def distinct(files: list[str]) -> list[str]:
    """Return a name for each file that no other has, also where case is ignored: its stem, if that is its own.

    Otherwise it is the file's name, with that of its folder if others have that name too.

    Example:
        >>> distinct(["a/cat.png", "a/dog.png", "b/dog.jpg", "c/dog.jpg"])
        ['cat', 'dog.png', 'b-dog.jpg', 'c-dog.jpg']
    """
    names: list[str] = []
    stems, whole = (Counter(getattr(Path(file), part).casefold() for file in files) for part in ("stem", "name"))
    for file in map(Path, files):
        name = wanted = file.stem if stems[file.stem.casefold()] == 1 else file.name
        if whole[file.name.casefold()] > 1 and file.parent.name:
            name = wanted = f"{file.parent.name}-{file.name}"
        number = 2
        while name.casefold() in {each.casefold() for each in names}:
            name, number = f"{wanted}-{number}", number + 1
        names.append(name)
    return names


def _held_out(run: Run, model: Model, count: int) -> tuple[Tensor, Tensor | None, list[str]]:
    from ..report import one_of_each

    if count < 1:
        raise UsageError(f"--count: expected at least 1, got {count}")
    test = data_of(run, model, "test")
    check_suits(model, test)
    images, labels = one_of_each(test, count)
    return images, labels, [f"held-out-{number:03}" for number in range(len(images))]
