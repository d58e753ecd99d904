"""``falign interpolate``: interpolate between four images."""

from __future__ import annotations

from argparse import SUPPRESS, Namespace
from typing import TYPE_CHECKING

from .errors import UsageError
from .outputs import beside, refuse_overwriting, writable
from .parser import Parser, Renamed, path
from .runs import existing_run, inputs_of, model_of, read_images, run_parser

if TYPE_CHECKING:
    from torch import Tensor

    from ..models import Model
    from ..training import Run

__all__ = ["parse", "parser", "run"]


def parser() -> Parser:
    """Return the parser of the command."""
    parser = run_parser("interpolate")
    parser.add_argument("images", type=path, nargs="*", help="four image files (default: four held-out images)")
    parser.add_argument("--out", type=path, default="", help="picture to write (default: RUN/interpolate.png)")
    parser.add_argument("--random", action="store_true", help="corners from the prior instead of images")
    parser.add_argument("--negative", action="store_true", help="swap dark and light of the files first")
    parser.add_argument("--invert", action=Renamed, nargs=0, const="--negative", help=SUPPRESS)
    parser.add_argument("--size", type=int, default=11, help="images along each side (default: %(default)s)")
    return parser


def parse(arguments: list[str]) -> Namespace:
    """Parse the arguments of the command."""
    return parser().parse(arguments)


def run(options: Namespace) -> None:
    """Interpolate, and write a picture."""
    from ..report import interpolation_picture

    found = existing_run(options.run)
    model = model_of(found, options)
    if options.images and (len(options.images) != 4 or options.random):
        raise UsageError(f"images: expected four files, or none with --random, got {len(options.images)}")
    if options.random and options.negative:
        raise UsageError("--negative: not with --random, which reads no images")
    if options.size < 2:
        raise UsageError(f"--size: expected at least 2, got {options.size}")
    out = writable(options.out or beside(options.run, "interpolate.png"))
    refuse_overwriting("--out", out, [out], [] if options.random else inputs_of(found, options.images, [out]))
    latent, labels = _from_prior(model, options.seed) if options.random else _from_images(found, model, options)
    title = "between four draws from the prior" if options.random else "between four images"
    interpolation_picture(model, latent, labels, out, title=title, size=options.size)
    print(f"Wrote {out}")


def _from_prior(model: Model, seed: int) -> tuple[Tensor, Tensor | None]:
    import torch

    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(model.classes, (4,), generator=generator) if model.classes else None
    return model.prior(4, generator, labels), labels


def _from_images(found: Run, model: Model, options: Namespace) -> tuple[Tensor, Tensor | None]:
    images, labels, _ = read_images(found, model, options.images, 4, options.negative)
    if len(images) < 4:
        raise UsageError(
            f"images: there are {len(images)} held out, a grid needs 4 corners; give four files, or --random"
        )
    if not model.classes:
        return model.encode(images), None
    labels = model.assumed_labels(images) if labels is None else labels
    return model.encode(images, labels), labels
