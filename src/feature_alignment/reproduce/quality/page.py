"""``quality.json`` and ``quality.md``: everything that a comparison found, from its finished trainings."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ... import __version__
from ...files import write_atomically
from ...report import commit
from ..page import cell_text, readable_json, rounded
from ..result import Table
from .comparison import PARTS, Comparison
from .measures import CURVE_IMAGES
from .pictures import draw
from .search import chosen, searched
from .table import curve_over_betas, quality_table, search_table, steps_table, wall_table

__all__ = ["write_quality"]


def write_quality(study: Comparison) -> list[Path]:
    """Write ``quality.json`` and, from it, ``quality.md``; return their paths.

    Trainings that are not finished are missing in the tables, and counted.
    """
    tables = {
        "table": ("Held-out images and samples", quality_table(study)),
        "wall": ("Error and training time, in multiples of the autoencoder's", wall_table(study)),
        "long": ("More updates", quality_table(study, "long")),
        "betas": ("Over the weight of the KL divergence", curve_over_betas(study)),
        "steps": ("Error after other numbers of steps, over that after the trained number", steps_table(study)),
        "search": ("The search", search_table(study)),
    }
    entries = {entry.name: entry for part in PARTS for entry in study.entries(part)}
    finished = [study.folder.read(name) for name in entries if study.folder.finished(name)]
    trained = [each for each in finished if "training" in each]
    found: dict[str, Any] = {
        "title": f"Quality, {study.name}",
        "data": study.name,
        "scale": study.scale,
        "seeds": study.seeds,
        "train_images": len(study.sets.train),
        "test_images": len(study.sets.table.held_out),
        "image_shape": list(study.sets.train.shape),
        "settings": dataclasses.asdict(study.plan),
        "trainings": {"finished": len(finished), "missing": len(entries) - len(finished)},
        "training_seconds": round(sum(each["training"].get("seconds", 0) for each in trained)),
        "machines": sorted({each["machine"] for each in finished if "machine" in each}),
        "devices": sorted({each["training"]["device"] for each in trained if "device" in each["training"]}),
        "commits": sorted({each["commit"] for each in finished if each.get("commit")}),
        "version": __version__,
        "commit": commit(),
        "real_images": study.reference(),
        "search": {
            name: {
                "minimised": method.criterion,
                "grid": searched(method, study.plan, study.folder),
                "chosen": chosen(method, study.plan, study.folder),
            }
            for name, method in study.plan.methods.items()
        },
        "tables": {name: {"title": title, **dataclasses.asdict(each)} for name, (title, each) in tables.items()},
    }
    table, wall, betas, steps = (tables[part][1] for part in ("table", "wall", "betas", "steps"))
    directory, methods, latent = study.folder.directory, study.plan.methods, study.plan.latent
    found["pictures"] = draw(directory, study.name, methods, table, wall, betas, steps, latent)
    path = study.folder.directory / "quality.json"
    write_atomically(path, readable_json(rounded(found)) + "\n")
    write_atomically(path.with_suffix(".md"), "\n".join(_markdown(found)) + "\n")
    return [path, path.with_suffix(".md")]


def _markdown(found: dict[str, Any]) -> Iterator[str]:
    yield from (f"# {found['title']}", "", _facts(found), "")
    real = ", ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in found["real_images"].items())
    yield from (f"Real images (the mean image; training images as samples): {real}.", "")
    for name, caption in found["pictures"].items():
        yield from (f"![{caption}]({name})", "")
    for table in found["tables"].values():
        if table["rows"]:
            yield from (f"## {table['title']}", "", *_rows(Table(table["columns"], table["rows"])), "")


def _facts(found: dict[str, Any]) -> str:
    plan, counts = found["settings"], found["trainings"]
    missing = f", {counts['missing']} of those planned not run" * bool(counts["missing"])
    few = {name: each["reconstructed"] for name, each in plan["methods"].items() if each["reconstructed"]}
    of_few = f"; errors of {', '.join(f'{name} of {count}' for name, count in few.items())} held-out images" * bool(few)
    return (
        f"{found['data']}: {found['train_images']:,} training and {found['test_images']:,} test images of shape "
        f"{' x '.join(map(str, found['image_shape']))}; {plan['updates']:,} updates of {plan['batch_size']} images; "
        f"seeds {', '.join(map(str, found['seeds']))}; {counts['finished']} trainings{missing}, "
        f"{found['training_seconds']:,} s; {'; '.join(found['machines'])}; {'; '.join(found['devices'])}; "
        f"commits {', '.join(each[:10] for each in found['commits'])}. FID is the classifier FID; errors after "
        f"numbers of steps other than T are of at most {CURVE_IMAGES} held-out images{of_few}. Times of an update "
        "are of whole trainings, which may have shared the machine; those that took turns are in the table of training "
        "times."
    )


def _rows(table: Table) -> Iterator[str]:
    yield f"| | {' | '.join(table.columns)} |"
    yield "|" + "---|" * (len(table.columns) + 1)
    for label, cells in table.rows.items():
        yield f"| {label} | {' | '.join(map(cell_text, cells))} |"
