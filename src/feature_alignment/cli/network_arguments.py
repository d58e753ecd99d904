"""The arguments of all commands that take a NETWORK."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import UsageError
from .parser import Parser, path, seed
from .runs import device_of

if TYPE_CHECKING:
    from ..networks import LoadedNetwork

__all__ = ["add_network_arguments", "add_network_options", "network_of"]

NETWORK = (
    "a run's directory; torchvision:NAME, timm:NAME or transformers:NAME, with weights from your cache; "
    "package.module:Class, or a function that returns a network; or a .pt2 file of torch.export"
)


def add_network_arguments(parser: Parser) -> None:
    """Add NETWORK, and the options of :func:`add_network_options`."""
    parser.add_argument("network", type=path, help=NETWORK)
    add_network_options(parser)


def add_network_options(parser: Parser) -> None:
    """Add ``--size``, ``--weights``, ``--random``, ``--init``, ``--mean``, ``--std``, ``--device`` and ``--seed``."""
    parser.add_argument(
        "--size", type=int, help="side of the images (default: the weights' own, otherwise the images')"
    )
    parser.add_argument("--weights", type=path, default="", help="file of weights: safetensors, or of torch.save")
    parser.add_argument("--random", action="store_true", help="untrained weights")
    parser.add_argument(
        "--init",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="argument of the class or function; may be repeated",
    )
    for name, what in (("mean", "mean by which the network wants images normalised"), ("std", "standard deviation")):
        text = f"{what}: one number, or one a channel (default: that of the weights)"
        parser.add_argument(f"--{name}", type=float, nargs="+", metavar="X", help=text)
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, mps, ... (default: %(default)s)")
    parser.add_argument("--seed", type=seed, default=0, help="of all random numbers (default: %(default)s)")


def network_of(options: Namespace, images: Sequence[str | Path] = (), name: str | None = None) -> LoadedNetwork:
    """Return the network that the arguments ask for, with PyTorch's random numbers seeded.

    Args:
        options: the arguments.
        images: files, for their size, where the network has none of its own.
        name: another NETWORK, with the same options.

    Raises:
        UsageError: no such device, or an argument without a value.
        NetworkError: see :func:`feature_alignment.networks.load_network`.
    """
    import torch

    from ..networks import image_files, load_network

    torch.manual_seed(options.seed)
    return load_network(
        name or options.network,
        size=options.size,
        weights=Path(options.weights) if options.weights else None,
        random=options.random,
        init=dict(map(_pair, options.init)),
        mean=options.mean,
        std=options.std,
        device=device_of(options.device),
        images=image_files(images),
    )


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key.isidentifier():
        raise UsageError(f"--init {text}: expected KEY=VALUE")
    return key, value
