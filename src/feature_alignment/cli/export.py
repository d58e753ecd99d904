"""``falign export``: parts of a trained model as files for other programs."""

from __future__ import annotations

from argparse import Namespace

from .errors import UsageError
from .outputs import writable_folder
from .parser import Parser, path
from .runs import RUN, existing_run

__all__ = ["parse", "parser", "run"]


def parser() -> Parser:
    """Return the parser of the command."""
    parser = Parser("export")
    parser.add_argument("run", type=path, help=RUN)
    parser.add_argument(
        "--format",
        choices=["pt2", "onnx"],
        default="onnx",
        help="pt2, for torch.export.load, or onnx, for onnxruntime and others (default: %(default)s)",
    )
    parser.add_argument("--out", type=path, required=True, help="folder to write the files into")
    parser.add_argument(
        "--tolerance",
        type=float,
        default=1e-4,
        help="largest difference allowed between the outputs of a file and the model's (default: %(default)s)",
    )
    return parser


def parse(arguments: list[str]) -> Namespace:
    """Parse the arguments of the command."""
    return parser().parse(arguments)


def run(options: Namespace) -> None:
    """Write the files, and print how far each is from the model."""
    import torch

    from ..export import export

    if not options.tolerance > 0:
        raise UsageError(f"--tolerance: expected a number greater than 0, got {options.tolerance}")
    found = existing_run(options.run)
    out = writable_folder("--out", options.out)
    torch.manual_seed(0)
    model = found.model()
    written = set()
    for each in export(model, out, format=options.format, tolerance=options.tolerance):
        if each.path is None:
            print(f"No {each.part}: {each.reason}")
        else:
            written.add(each.part)
            print(f"Wrote {each.path} (largest difference from the model: {each.difference:.1e})", flush=True)
    for name in ("encoder", "decoder", "refiner"):
        if name not in written and (other := out / f"{name}.{options.format}").exists():
            print(f"{other} is there from before, and no part of this model")
