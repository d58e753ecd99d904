"""Writing results: JSON, then Markdown and HTML made from it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import quote

from .. import __version__
from ..files import write_atomically
from ..report import commit
from ..report.pages import data_uri, render
from .result import Result
from .study import Study

__all__ = ["cell_text", "readable_json", "rounded", "write_pages", "write_result"]

TEMPLATES = Path(__file__).parent / "templates"
TITLE = "Feature alignment as a generative process, reproduced"


def write_result(study: Study, result: Result, models: Sequence[str]) -> Path:
    """Write ``TARGET.json``, with its settings and provenance, and ``TARGET.md``; return the path of the JSON.

    Args:
        study: the study that produced the result.
        result: the table or figure.
        models: names of the models trained for it.
    """
    trained = [study.run(model, seed).results() for model in models for seed in study.seeds]
    found = asdict(result) | {
        "numbers": rounded(result.numbers),
        "data": study.name,
        "compared_with": study.like,
        "scale": study.scale,
        "seeds": study.seeds,
        "train_images": len(study.train),
        "image_shape": list(study.train.shape),
        "settings": {model: asdict(study.setting(model)) for model in models},
        "training_seconds": round(sum(each["seconds"] for each in trained), 1),
        "devices": sorted({each["device"] for each in trained}),
        "version": __version__,
        "commit": commit(),
    }
    path = study.directory / f"{result.target}.json"
    write_atomically(path, readable_json(found) + "\n")
    write_atomically(path.with_suffix(".md"), "\n".join(_markdown(found, "")) + "\n")
    return path


def write_pages(out: Path) -> list[Path]:
    """Write ``report.md`` and ``report.html`` of every result under ``out``; return their paths."""
    found = [(path, json.loads(path.read_text())) for path in sorted(out.glob("*/*.json"))]
    results = sorted(((path, each) for path, each in found if "target" in each), key=lambda pair: _order(pair[1]))
    lines = [f"# {TITLE}", ""]
    for path, each in results:
        lines += _markdown(each, f"{path.parent.name}/")
    sections = [_section(each, path.parent) for path, each in results]
    write_atomically(out / "report.md", "\n".join(lines) + "\n")
    write_atomically(out / "report.html", render("results.html.j2", TEMPLATES, title=TITLE, sections=sections))
    return [out / "report.html", out / "report.md"]


def _order(result: dict[str, Any]) -> tuple[str, int, str]:
    digits = "".join(each for each in result["target"] if each.isdigit())
    return result["data"], int(digits or 99), result["target"]  # Table 1, figures, appendix


def readable_json(found: dict[str, Any]) -> str:
    """Return readable JSON, with each list of numbers on one line."""
    text = json.dumps(found, indent=2)
    return re.sub(r"\[[-+.\deEInfityNaul,\s]*\]", lambda numbers: " ".join(numbers[0].split()), text)


def rounded(value: Any) -> Any:
    """Round every number to six significant digits, which exceeds the precision of the measurements."""
    if isinstance(value, dict):
        return {name: rounded(each) for name, each in value.items()}
    if isinstance(value, list):
        return [rounded(each) for each in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


def cell_text(value: Any) -> str:
    """Return a cell of a table as text, a number over seeds as mean and deviation."""
    if value is None:
        return "-"
    if isinstance(value, dict):
        return f"{value['mean']:.4g}" + (f" ± {value['std']:.2g}" if value["std"] else "")
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _facts(result: dict[str, Any]) -> str:
    trained = "; ".join(
        f"{model}: {each['steps']:,} steps of {each['batch_size']} images" for model, each in result["settings"].items()
    )
    images = {each["images"] for each in result["settings"].values()}
    return (
        f"{result['data']} ({result['train_images']:,} training images of shape "
        f"{' x '.join(map(str, result['image_shape']))}), scale {result['scale']}, "
        f"seeds {', '.join(map(str, result['seeds']))}"
        + (f", at most {max(images):,} held-out images and as many samples measured" if images else "")
        + (f". Trained: {trained}; {result['training_seconds']:.0f} s in all" if trained else "")
        + f" on {', '.join(result['devices'])}" * bool(result["devices"])
        + (f". Commit {result['commit'][:10]}." if result["commit"] else ".")
    )


def _table(result: dict[str, Any]) -> Iterator[list[str]]:
    yield ["", *result["table"]["columns"]]
    for label, cells in result["table"]["rows"].items():
        yield [label, *map(cell_text, cells)]


def _title(result: dict[str, Any]) -> str:
    return f"{result['target']}, {result['data']}: {result['title']}"


def _markdown(result: dict[str, Any], folder: str) -> list[str]:
    heads, *rows = _table(result)
    return [
        f"## {_title(result)}",
        "",
        f"The paper: {result['claim']}",
        "",
        f"| {' | '.join(heads)} |",
        "|" + "---|" * len(heads),
        *(f"| {' | '.join(row)} |" for row in rows),
        "",
        *(
            line
            for name, caption in result["pictures"].items()
            for line in (f"![{caption}]({quote(folder + name)})", "")
        ),
        *(f"- {note}" for note in result["notes"]),
        "",
        f"*{_facts(result)}*",
        "",
    ]


def _section(result: dict[str, Any], directory: Path) -> dict[str, Any]:
    """Return the template's variables for one result."""
    heads, *rows = _table(result)
    pictures = [(caption, data_uri((directory / name).read_bytes())) for name, caption in result["pictures"].items()]
    return {
        "title": _title(result),
        "claim": result["claim"],
        "heads": heads,
        "rows": rows,
        "pictures": pictures,
        "notes": result["notes"],
        "facts": _facts(result),
    }
