"""``falign invert``: the picture that a layer of any network sees, beside the photograph."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import UsageError
from .network_arguments import add_network_arguments, network_of
from .outputs import fitted_images, free_name, names_taken, refuse_overwriting, refuse_within, writable
from .parser import Parser, path

if TYPE_CHECKING:
    from .pre_images import Search

__all__ = ["parse", "parser", "run"]


def parser() -> Parser:
    """Return the parser of the command."""
    parser = Parser("invert")
    add_network_arguments(parser)
    parser.add_argument(
        "images", type=path, nargs="*", help="image files or folders; without any, what excites --unit or --class most"
    )
    parser.add_argument("--layer", default="", help="module inside the network (default: the network's output)")
    parser.add_argument("--unit", type=int, help="match only this channel or neuron of the layer")
    parser.add_argument("--class", dest="label", default="", help="match only this class's score, by name or number")
    parser.add_argument(
        "--variables",
        type=path,
        default="natural",
        help="pixels, bounded or natural; a folder of images, to which they are fitted; or a run, whose decoder draws "
        "the pictures (default: %(default)s)",
    )
    parser.add_argument(
        "--out",
        type=path,
        default="invert.png",
        help="picture to write, or FOLDER/ for a picture of each image, resumable (default: %(default)s)",
    )
    parser.add_argument(
        "--evaluations", type=int, default=500, help="of the network, at most, for each image (default: %(default)s)"
    )
    parser.add_argument(
        "--tolerance", type=float, default=0.01, help="relative residual at which to stop (default: %(default)s)"
    )
    parser.add_argument("--jitter", type=int, default=0, help="robust to shifts of so many pixels (default: none)")
    parser.add_argument("--batch-size", type=int, default=8, help="images at a time (default: %(default)s)")
    return parser


def parse(arguments: list[str]) -> Namespace:
    """Parse the arguments of the command."""
    return parser().parse(arguments)


def run(options: Namespace) -> None:
    """Search, print and draw."""
    _check(options)
    if Path(options.out).is_dir() or options.out.endswith("/"):
        refuse_within("--out", options.out, [*options.images, *fitted_images(options.variables)])
    out = writable(options.out, folder=True)
    if out.is_file():
        from ..networks import image_files

        read = image_files([*options.images, *fitted_images(options.variables)])
        refuse_overwriting("--out", out, [out], read)
    from .pre_images import search_of

    search = search_of(network_of(options, options.images), options)
    if not options.images:
        _maximised(search, out)
    elif out.is_dir():
        from .pre_image_folder import fill

        fill(search, options.images, out)
    else:
        _one_picture(search, options.images, out)


def _check(options: Namespace) -> None:
    if options.unit is not None and options.unit < 0:
        raise UsageError(f"--unit: expected at least 0, got {options.unit}")
    if options.label and (options.layer or options.unit is not None):
        raise UsageError("--class: is a unit of the network's output; give either it or --layer and --unit")
    if not options.images and not options.label and options.unit is None:
        raise UsageError("images: expected at least one, or --unit or --class for what excites it most")
    if not options.images and options.variables == "pixels":
        raise UsageError("--variables pixels: have no bounds to maximise within; expected natural, bounded or a folder")
    for name, least in (("evaluations", 2), ("jitter", 0), ("batch_size", 1)):
        if getattr(options, name) < least:
            raise UsageError(f"--{name.replace('_', '-')}: expected at least {least}, got {getattr(options, name)}")
    if options.jitter and options.evaluations < 10:
        raise UsageError(f"--evaluations: expected at least 10 with --jitter, got {options.evaluations}")
    for name in ("jitter", "tolerance"):
        if not options.images and getattr(options, name) != parser().get_default(name):
            raise UsageError(f"--{name}: is of the search for an image's pre-image; there are no images")
    if not options.tolerance > 0:
        raise UsageError(f"--tolerance: expected more than 0, got {options.tolerance}")


def _maximised(search: Search, out: Path) -> None:
    from ..report import sheets
    from .pre_images import SIDE

    found = search.maximised()
    out = out / free_name(search.slug, names_taken(out)) if out.is_dir() else out
    print(f"{search.what}: {float(found.initial):.4g} for grey, {float(found.value):.4g} now")
    title = f"what excites {search.what} most"
    sheets.grid(found.input[None].cpu(), out, title=title, least=SIDE)
    print(f"Wrote {out}")


def _one_picture(search: Search, files: list[str], out: Path) -> None:
    import torch

    from ..networks import image_files
    from ..report import sheets
    from .pre_images import draw_pair

    paths = image_files(files)
    done = [each for batch in search.batches(paths) for each in batch]
    if not done:
        raise UsageError(f"images: none of the {len(paths)} can be read")
    if len(done) == 1:
        draw_pair(done[0], search.what, out)
    else:
        photos, found = (torch.stack([getattr(each, name) for each in done]) for name in ("photo", "found"))
        title = f"{search.loaded.name}: photographs, and what {search.what} keeps of them"
        sheets.pairs({"photograph": photos, search.what: found}, out, title=title)
    print(f"Wrote {out}")
