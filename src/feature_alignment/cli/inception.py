"""The options of the commands that can measure FID and KID."""

from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import UsageError
from .parser import Parser, path

if TYPE_CHECKING:
    from ..metrics import Inception

__all__ = ["add_inception", "inception"]


def add_inception(parser: Parser) -> None:
    """Add ``--fid`` and ``--inception-weights``."""
    parser.add_argument(
        "--fid",
        choices=["auto", "yes", "no"],
        default="auto",
        help="FID and KID with Inception-v3, slow without a GPU: if its weights are there (auto), yes or no",
    )
    parser.add_argument(
        "--inception-weights", type=path, default="", help="file with its weights (default: torch hub's, if there)"
    )


def inception(options: Namespace) -> Inception | None:
    """Return the feature extractor of FID; none with ``--fid no``, or with ``auto`` if its weights are missing.

    Raises:
        UsageError: ``--fid yes`` without weights, ``--fid no`` with a file, or one that does not contain them.
    """
    import torch

    from ..metrics import Inception, inception_weights

    if options.fid == "no" and options.inception_weights:
        raise UsageError("--inception-weights: not with --fid no")
    weights = Path(options.inception_weights or inception_weights())
    if options.fid == "no" or (not options.inception_weights and not _there(weights, options.fid)):
        return None
    try:
        return Inception(weights).to("cuda" if torch.cuda.is_available() else "cpu")
    except (FileNotFoundError, ValueError) as error:
        raise UsageError(f"--inception-weights {error}") from None


def _there(weights: Path, wanted: str) -> bool:
    from ..metrics import INCEPTION_URL

    if weights.is_file():
        return True
    missing = (
        f"FID and KID need the weights of Inception-v3: download {INCEPTION_URL} and give the file with "
        f"--inception-weights, or put it into {weights.parent}"
    )
    if wanted == "yes":
        raise UsageError(f"--fid yes: {missing}")
    print(f"falign: left out: {missing}", file=sys.stderr)
    return False
