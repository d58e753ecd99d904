"""``falign diagnose``: what each layer of a network keeps of images."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING

from .errors import UsageError, explain, one_line
from .network_arguments import add_network_arguments, network_of
from .outputs import fitted_images, refuse_overwriting, refuse_within, removed_if_empty, writable_folder
from .parser import Parser, path

if TYPE_CHECKING:
    from torch import Tensor

    from ..core.inversion import Variables
    from ..diagnosis import Diagnosis
    from ..networks import LoadedNetwork

__all__ = ["parse", "parser", "run"]

#: The pictures that are written.
DRAWN = ("information.png", "strips.png")
#: What is said of the second network by options of its own.
SECOND = ("weights", "random", "init", "mean", "std")


def parser() -> Parser:
    """Return the parser of the command."""
    parser = Parser("diagnose")
    add_network_arguments(parser)
    parser.add_argument("--images", type=path, nargs="+", required=True, help="folder of images, or files")
    parser.add_argument("--out", type=path, required=True, help="directory to write")
    parser.add_argument(
        "--layers", nargs="+", metavar="NAME", help="all, or names of modules (default: up to 12 depths)"
    )
    parser.add_argument("--count", type=int, default=8, help="images, evenly spread (default: %(default)s)")
    parser.add_argument(
        "--variables",
        type=path,
        default="natural",
        help="pixels, bounded or natural; a folder of images, to which they are fitted; or a run, whose decoder draws "
        "the pictures (default: %(default)s)",
    )
    parser.add_argument(
        "--tolerance", type=float, default=0.01, help="relative residual at which to stop (default: %(default)s)"
    )
    parser.add_argument(
        "--evaluations", type=int, default=100, help="of the network, at most, for a pre-image (default: %(default)s)"
    )
    parser.add_argument("--against", type=path, default="", metavar="NETWORK", help="a second network, side by side")
    parser.add_argument("--against-weights", type=path, default="", metavar="FILE", help="its file of weights")
    parser.add_argument("--against-random", action="store_true", help="its weights are untrained")
    parser.add_argument(
        "--against-init", action="append", default=[], metavar="KEY=VALUE", help="argument of its class or function"
    )
    for name in ("mean", "std"):
        parser.add_argument(f"--against-{name}", type=float, nargs="+", metavar="X", help=f"its --{name}")
    return parser


def parse(arguments: list[str]) -> Namespace:
    """Parse the arguments of the command."""
    return parser().parse(arguments)


def run(options: Namespace) -> None:
    """Measure, draw after every layer, and write."""
    _check_second(options)
    refuse_within("--out", options.out, [*options.images, *fitted_images(options.variables)])
    with removed_if_empty(options.out):
        _diagnose(options)


def _diagnose(options: Namespace) -> None:
    from ..networks import image_files
    from ..networks.parts import variables_of
    from ..training.stopping import interruptible

    out = writable_folder("--out", options.out)
    if (out / "config.yaml").exists() or (out / "config.json").exists():
        raise UsageError(f"--out {out}: is a run or a model, whose report would be replaced; choose another directory")
    refuse_overwriting("--out", out, [out / name for name in DRAWN], image_files(options.images))
    loaded = network_of(options, options.images)
    images = _images(options, loaded)
    second = _second(options, loaded)
    variables = variables_of(options.variables, loaded)
    named = options.layers if options.layers != ["all"] else None
    for each in filter(None, (loaded, second)):
        _check_layers(each, named or [])
    with interruptible(f"(what was measured is in {out})"):
        found = _measured(loaded, images, variables, options, lambda part: part.save(out))
        if second is not None:
            _measured(second, images, variables, options, lambda part: found.save(out, part))
    print(f"Wrote {out / 'report.html'}")


def _check_second(options: Namespace) -> None:
    alone = [f"--against-{name}" for name in SECOND if getattr(options, f"against_{name}")]
    if alone and not options.against:
        raise UsageError(f"{', '.join(alone)}: say more of a second network, but none is named by --against")


def _images(options: Namespace, loaded: LoadedNetwork) -> Tensor:
    """Return so many images, spread over all files; those that cannot be read are replaced by others."""
    import torch

    from ..networks import image_files, read_images
    from ..networks.parts import device_of

    if options.count < 1:
        raise UsageError(f"--count: expected at least 1, got {options.count}")
    files = image_files(options.images)
    chosen = [files[place * len(files) // options.count] for place in range(options.count)]
    order = dict.fromkeys(chosen if len(files) > options.count else files) | dict.fromkeys(files)
    found = [pixels for _, pixels in islice(read_images(list(order), loaded), options.count)]
    if not found:
        raise UsageError(f"--images {' '.join(options.images)}: none of these can be read as an image")
    return torch.stack(found).to(device_of(loaded))


def _second(options: Namespace, first: LoadedNetwork) -> LoadedNetwork | None:
    """Return the network to compare with, for images of the same shape."""
    if not options.against:
        return None
    size = first.image_shape[-1]
    kept = {name: getattr(options, f"against_{name}") for name in SECOND}
    found = network_of(Namespace(**{**vars(options), **kept, "size": size}), options.images, options.against)
    if found.image_shape != first.image_shape:
        shapes = [" x ".join(map(str, each.image_shape)) for each in (found, first)]
        raise UsageError(f"--against {options.against}: takes images of {shapes[0]}, {first.name} of {shapes[1]}")
    return found


def _check_layers(loaded: LoadedNetwork, names: list[str]) -> None:
    """Refuse unknown layers before anything is measured."""
    from ..core.diagnosis import part_of

    for name in names:
        try:
            part_of(loaded.module, name)
        except ValueError as error:
            raise UsageError(f"--layers: {loaded.name}: {str(error).removeprefix('names: ')}") from None


def _measured(
    loaded: LoadedNetwork,
    images: Tensor,
    variables: str | Variables,
    options: Namespace,
    save: Callable[[Diagnosis], None],
) -> Diagnosis:
    from ..diagnosis import diagnose

    with _explained(loaded.name):
        return diagnose(
            loaded.module,
            images,
            "all" if options.layers == ["all"] else options.layers,
            name=loaded.name,
            variables=variables,
            tol=options.tolerance,
            max_evaluations=options.evaluations,
            seed=options.seed,
            progress=True,
            after_each=save,
        )


@contextmanager
def _explained(name: str) -> Iterator[None]:
    """Say in one line why a network cannot be measured."""
    try:
        yield
    except (TypeError, ValueError, RuntimeError) as error:
        if explain(error) is not None:
            raise
        raise UsageError(f"{name}: {one_line(error)[:500]}") from error
