"""``falign reconstruct``: reconstruct image files, or held-out images."""

from __future__ import annotations

from argparse import SUPPRESS, Namespace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import UsageError
from .outputs import beside, refuse_overwriting, refuse_within, writable
from .parser import Parser, Renamed, path
from .runs import data_folder, existing_run, inputs_of, labels_of, model_of, read_images, run_parser

if TYPE_CHECKING:
    from torch import Tensor

    from ..models import Model

__all__ = ["parse", "parser", "run"]


def parser() -> Parser:
    """Return the parser of the command."""
    parser = run_parser("reconstruct")
    parser.add_argument(
        "images", type=path, nargs="*", help="image files or folders (default: held-out images of the data set)"
    )
    parser.add_argument(
        "--out",
        type=path,
        default="",
        help="picture to write, or a folder for one file an image (default: RUN/reconstruct.png)",
    )
    parser.add_argument("--class", dest="label", default="", help="class of the images (default: inferred)")
    parser.add_argument("--negative", action="store_true", help="swap dark and light first, for ink on paper")
    parser.add_argument("--invert", action=Renamed, nargs=0, const="--negative", help=SUPPRESS)
    parser.add_argument("--count", type=int, help="how many held-out images; not with files (default: 20)")
    return parser


def parse(arguments: list[str]) -> Namespace:
    """Parse the arguments of the command."""
    return parser().parse(arguments)


def run(options: Namespace) -> None:
    """Reconstruct into one picture, or into a folder."""
    from ..networks import image_files
    from ..report import reconstruction_picture

    found = existing_run(options.run)
    model = model_of(found, options)
    if Path(options.out).is_dir() or options.out.endswith("/"):
        refuse_within("--out", options.out, options.images or data_folder(found, Path(options.out)))
    out = writable(options.out or beside(options.run, "reconstruct.png"), folder=True)
    if options.images and options.count is not None:
        raise UsageError("--count: of held-out images, not with files")
    count = 20 if options.count is None else options.count
    given = [str(file) for file in image_files(options.images)]
    images, labels, names = read_images(found, model, given, count, options.negative)
    files = _files(model, names, out) if out.is_dir() else {}
    outputs = [*chain(*files.values())] if files else [out]
    refuse_overwriting("--out", out, outputs, inputs_of(found, given, outputs))
    if options.label:
        labels = labels_of(model, [options.label]).expand(len(images))
    if files:
        _write_each(model, images, labels, files)
    else:
        reconstruction_picture(model, images, labels, out)
    print(f"Wrote {out}")


def _files(model: Model, names: list[str], folder: Path) -> dict[str, list[Path]]:
    """Return the files of all images in a folder, by the stage that they show."""
    stages = [model.stage, *(["refined"] if model.refiner is not None else [])]
    return {stage: [folder / f"{name}-{stage}.png" for name in names] for stage in stages}


def _write_each(model: Model, images: Tensor, labels: Tensor | None, files: dict[str, list[Path]]) -> None:
    from ..report.pictures import save_image

    given = None
    if model.classes:
        given = model.assumed_labels(images) if labels is None else labels
    decoded = model.reconstruct(images, given)
    stages = {model.stage: decoded}
    if model.refiner is not None:
        stages["refined"] = model.refine(decoded, given)
    for stage, results in stages.items():
        for file, result in zip(files[stage], results, strict=True):
            save_image(result, file)
