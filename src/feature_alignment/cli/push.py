"""``falign push``: a trained model on the Hugging Face Hub, with a model card."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from .errors import UsageError
from .parser import Parser, path
from .runs import existing_run

__all__ = ["parse", "parser", "run"]


def parser() -> Parser:
    """Return the parser of the command."""
    parser = Parser("push")
    parser.add_argument("run", type=path, help="run directory of a finished training")
    parser.add_argument("repository", help="owner/name on the Hugging Face Hub; it is created if there is none")
    parser.add_argument(
        "--licence", "--license", default="mit", help="of the weights, by the Hub's identifier (default: %(default)s)"
    )
    parser.add_argument("--private", action="store_true", help="make a repository that is created private")
    parser.add_argument("--out", type=path, default="", help="write the files into this folder and push nothing")
    return parser


def parse(arguments: list[str]) -> Namespace:
    """Parse the arguments of the command."""
    return parser().parse(arguments)


def run(options: Namespace) -> None:
    """Push, or write what would be pushed."""
    from ..extras import require
    from ..models.hub import is_repository

    require("huggingface_hub", "hub", "falign push")
    from ..export.hub import HubModel, push

    if Path(options.repository).exists() or not is_repository(options.repository):
        raise UsageError(f"{options.repository}: expected owner/name of a repository on the Hugging Face Hub")
    found = existing_run(options.run, local=True)
    model = found.model()
    if options.out:
        card = {"repository": options.repository, "licence": options.licence}
        shared = HubModel(model, found)
        shared.generate_model_card(**card)  # a mistake in it comes before anything is written
        shared.save_pretrained(_empty(options.out), model_card_kwargs=card)
        print(f"Wrote {options.out} (licence: {options.licence}); read its README.md")
        return
    address = push(model, options.repository, run=found, licence=options.licence, private=options.private)
    print(f"Pushed {address} (licence: {options.licence})")


def _empty(name: str) -> Path:
    folder = Path(name)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"--out {folder}: expected a folder that is empty or not there yet")
    return folder
