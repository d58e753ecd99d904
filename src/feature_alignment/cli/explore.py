"""``falign explore``: a page on this machine, on which a run or a network is looked into."""

from __future__ import annotations

import socket
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import UsageError
from .network_arguments import add_network_arguments, network_of
from .parser import Parser
from .runs import existing_run, model_of

if TYPE_CHECKING:
    from ..models import Model
    from ..networks import LoadedNetwork

__all__ = ["parse", "parser", "run"]

#: Gradio's own.
PORT = 7860


def parser() -> Parser:
    """Return the parser of the command."""
    parser = Parser("explore")
    add_network_arguments(parser)
    parser.add_argument(
        "--port", type=int, default=PORT, help="of the page on this machine, 0 for a free one (default: %(default)s)"
    )
    return parser


def parse(arguments: list[str]) -> Namespace:
    """Parse the arguments of the command."""
    return parser().parse(arguments)


def run(options: Namespace) -> None:
    """Serve the page until it is interrupted."""
    from ..training.stopping import interruptible

    with interruptible(f"{options.network}: the page is closed"), _listening(options.port) as sock:
        from ..explorer import build, serve

        page = build(_subject(options), options.network)
        print(f"{options.network}: http://127.0.0.1:{sock.getsockname()[1]} (Ctrl-C ends it)", flush=True)
        serve(page, sock)


def _listening(port: int) -> socket.socket:
    from ..explorer import listen

    if not 0 <= port < 2**16:
        raise UsageError(f"--port: expected 0 to 65535, got {port}")
    return listen(port)


def _subject(options: Namespace) -> Model | LoadedNetwork:
    """Return the model of a run or of the Hub, or the network."""
    from ..models.hub import is_repository

    if not (Path(options.network).is_dir() or is_repository(options.network)):
        return network_of(options)
    for name in ("size", "weights", "random", "init", "mean", "std"):
        if getattr(options, name):
            raise UsageError(f"--{name}: not for a run, which has its own")
    return model_of(existing_run(options.network), options)
