"""``falign score``: anomaly scores of images, and where in the image the error is."""

from __future__ import annotations

import csv
import io
import math
import warnings
from argparse import Namespace
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..files import write_atomically
from .errors import UsageError
from .outputs import beside, refuse_overwriting, refuse_within, writable, writable_folder
from .parser import Parser, path
from .runs import distinct, existing_run, model_of, run_parser

if TYPE_CHECKING:
    from torch import Tensor

    from ..models import Model

__all__ = ["parse", "parser", "run"]

COLUMNS = ("file", "error", "top", "left", "side", "share")
#: Images reconstructed at a time.
CHUNK = 100


def parser() -> Parser:
    """Return the parser of the command."""
    parser = run_parser("score")
    parser.add_argument("images", type=path, nargs="+", metavar="FOLDER", help="folders of images, or files")
    parser.add_argument("--out", type=path, default="", help="CSV file to write (default: RUN/scores.csv)")
    parser.add_argument("--maps", type=path, default="", help="also write heat maps of the errors into this folder")
    parser.add_argument(
        "--region", type=int, help="side of the square in which the largest error is sought (default: a seventh)"
    )
    parser.add_argument("--negative", action="store_true", help="swap dark and light first, for ink on paper")
    return parser


def parse(arguments: list[str]) -> Namespace:
    """Parse the arguments of the command."""
    return parser().parse(arguments)


def run(options: Namespace) -> None:
    """Score, write what was scored even if it is interrupted, and name the worst."""
    from ..networks import image_files
    from ..training.stopping import interruptible

    found = existing_run(options.run)
    model = model_of(found, options)
    out = writable(options.out or beside(options.run, "scores.csv"), (".csv",))
    side, paths = _side(model, options.region), image_files(options.images)
    refuse_overwriting("--out", out, [out], [*paths, found.log])
    maps = _maps(options.maps, options.images, paths)
    rows: list[dict[str, Any]] = []
    try:
        with interruptible(f"(what was scored, if anything, is in {out})"):
            rows.extend(_rows(model, options, side, paths, maps))  # one by one: what is there when it is stopped stays
    finally:
        if rows:
            write_atomically(out, _table(rows))
    if not rows:
        raise UsageError(f"images: none can be read in {', '.join(options.images)}")
    lost = sum(not math.isfinite(row["error"]) for row in rows)
    if lost:
        warnings.warn(f"the errors of {lost} of {len(rows)} images are no finite numbers; see {out}", stacklevel=1)
    worst = max(rows, key=lambda row: float(row["error"]) if math.isfinite(row["error"]) else math.inf)
    print(f"{len(rows)} images; largest error {worst['error']:.4g}: {worst['file']}")
    print(f"Wrote {out}")


def _side(model: Model, region: int | None) -> int:
    least = min(model.image_shape[1:])
    side = max(1, round(least / 7)) if region is None else region
    if not 1 <= side <= least:
        raise UsageError(f"--region: expected 1 to {least}, got {region}")
    return side


def _maps(name: str, given: list[str], paths: list[Path]) -> dict[Path, Path]:
    """Return where the heat map of each image goes; nowhere without a folder."""
    if not name:
        return {}
    refuse_within("--maps", name, given)
    folder = writable_folder("--maps", name)
    maps = {path: folder / f"{own}.png" for path, own in zip(paths, distinct(list(map(str, paths))), strict=True)}
    refuse_overwriting("--maps", folder, maps.values(), paths)
    return maps


def _rows(
    model: Model, options: Namespace, side: int, paths: list[Path], drawn: dict[Path, Path]
) -> Iterator[dict[str, Any]]:
    import torch

    from ..metrics.anomaly import error_maps, worst_region
    from ..networks import LoadedNetwork, read_images
    from ..progress import Progress

    channels, height, width = model.image_shape
    images = read_images(paths, LoadedNetwork(options.run, model, (channels, height, width), white=model.white))
    with Progress("scoring", len(paths), unit="image", delay=1) as bar:
        done = 0
        while batch := list(islice(images, CHUNK)):
            pixels = torch.stack([1 - each if options.negative else each for _, each in batch]).to(model.dtype)
            maps = error_maps(pixels, model.reconstruct(pixels).cpu()).float()
            region = worst_region(maps, side)
            bar.update(done := done + len(batch))
            for (file, _), error_map, *place in zip(batch, maps, *region, strict=True):
                if file in drawn:
                    _draw(error_map / channels, drawn[file])
                top, left, share = (each.item() for each in place)
                yield dict(zip(COLUMNS, (file, float(error_map.sum()), top, left, side, share), strict=True))


def _draw(mean_squares: Tensor, path: Path) -> None:
    """Write the root mean square error of every pixel, from 0 (black) to 0.5 and more (bright)."""
    import torch

    from ..extras import require
    from ..report.pictures import save_image

    colours = require("matplotlib", "train", "heat maps").colormaps["inferno"]
    heat = colours((2 * mean_squares.sqrt()).clamp(0, 1).numpy())[..., :3]
    save_image(torch.tensor(heat).permute(2, 0, 1), path)


def _table(rows: list[dict[str, Any]]) -> str:
    text = io.StringIO()
    table = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    table.writeheader()
    table.writerows({**row, "error": f"{row['error']:.6g}", "share": f"{row['share']:.4f}"} for row in rows)
    return text.getvalue()
