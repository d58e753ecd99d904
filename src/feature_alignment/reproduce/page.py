"""Results as files: JSON first, then Markdown and HTML from the JSON."""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .. import __version__
from ..report.run_report import STYLE, commit
from .study import Study

__all__ = ["Result", "Table", "write_pages", "write_result"]


@dataclass
class Table:
    """Numbers beside each other.

    Attributes:
        columns: heads of all columns but the first.
        rows: label to cells: text, a number, a :data:`feature_alignment.reproduce.study.Cell`, or none.
    """

    columns: list[str]
    rows: dict[str, list[Any]]


@dataclass
class Result:
    """One table or figure of the paper, made anew.

    Attributes:
        target: its name on the command line.
        title: what it shows.
        claim: what the paper says of it.
        table: its numbers.
        pictures: file name, beside the JSON, to caption.
        notes: what to know when reading it.
        numbers: whatever else was measured.
    """

    target: str
    title: str
    claim: str
    table: Table
    pictures: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    numbers: dict[str, Any] = field(default_factory=dict)


def write_result(study: Study, result: Result, rows: Sequence[str]) -> Path:
    """Write ``TARGET.json`` (with how it was made) and ``TARGET.md``; return the former's path.

    Args:
        study: that it was measured in.
        result: what was measured.
        rows: the models that were trained for it.
    """
    trained = [study.run(row, seed).results() for row in rows for seed in study.seeds]
    found = asdict(result) | {
        "numbers": _rounded(result.numbers),
        "data": study.name,
        "compared_with": study.like,
        "scale": study.scale,
        "seeds": study.seeds,
        "train_images": len(study.train),
        "image_shape": list(study.train.shape),
        "settings": {row: asdict(study.setting(row)) for row in rows},
        "training_seconds": round(sum(each["seconds"] for each in trained), 1),
        "devices": sorted({each["device"] for each in trained}),
        "version": __version__,
        "commit": commit(),
    }
    path = study.directory / f"{result.target}.json"
    _write(path, _json(found) + "\n")
    _write(path.with_suffix(".md"), "\n".join(_markdown(found, "")) + "\n")
    return path


def write_pages(out: Path) -> list[Path]:
    """Write ``report.md`` and ``report.html`` of every result under ``out``; return their paths."""
    found = [(path, json.loads(path.read_text())) for path in sorted(out.glob("*/*.json"))]
    results = sorted(((path, each) for path, each in found if "target" in each), key=lambda pair: _order(pair[1]))
    lines = ["# Feature alignment as a generative process, reproduced", ""]
    body = []
    for path, each in results:
        lines += _markdown(each, f"{path.parent.name}/")
        body.append(_html(each, path.parent))
    title = "Feature alignment as a generative process, reproduced"
    page = f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>{title}</title><style>{STYLE}</style>\n'
    _write(out / "report.md", "\n".join(lines) + "\n")
    _write(out / "report.html", page + f"<h1>{title}</h1>\n" + "\n".join(body) + "\n</html>\n")
    return [out / "report.html", out / "report.md"]


def _order(result: dict[str, Any]) -> tuple[str, int, str]:
    digits = "".join(each for each in result["target"] if each.isdigit())
    return result["data"], int(digits or 99), result["target"]  # Table 1, figures, appendix


def _write(path: Path, text: str) -> None:
    scratch = path.with_name(path.name + ".part")
    scratch.write_text(text)
    scratch.replace(path)  # whole or not at all


def _json(found: dict[str, Any]) -> str:
    """Return JSON to be read by eye: a list of numbers on one line."""
    text = json.dumps(found, indent=2)
    return re.sub(r"\[[-+.\deEInfityNaul,\s]*\]", lambda numbers: " ".join(numbers[0].split()), text)


def _rounded(value: Any) -> Any:
    """Round every number to six digits, which is more than any measurement here is good for."""
    if isinstance(value, dict):
        return {name: _rounded(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_rounded(each) for each in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


def _text(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, dict):
        return f"{value['mean']:.4g}" + (f" ± {value['std']:.2g}" if value["std"] else "")
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _facts(result: dict[str, Any]) -> str:
    trained = "; ".join(
        f"{row}: {each['steps']:,} steps of {each['batch_size']} images" for row, each in result["settings"].items()
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
        yield [label, *map(_text, cells)]


def _markdown(result: dict[str, Any], folder: str) -> list[str]:
    heads, *rows = _table(result)
    return [
        f"## {result['target']}, {result['data']}: {result['title']}",
        "",
        f"The paper: {result['claim']}",
        "",
        f"| {' | '.join(heads)} |",
        "|" + "---|" * len(heads),
        *(f"| {' | '.join(row)} |" for row in rows),
        "",
        *(line for name, caption in result["pictures"].items() for line in (f"![{caption}]({folder}{name})", "")),
        *(f"- {note}" for note in result["notes"]),
        "",
        f"*{_facts(result)}*",
        "",
    ]


def _html(result: dict[str, Any], directory: Path) -> str:
    heads, *rows = ([html.escape(each) for each in row] for row in _table(result))
    pictures = "".join(
        f'<figure><img alt="{html.escape(caption)}" src="data:image/png;base64,'
        f'{base64.b64encode((directory / name).read_bytes()).decode()}"><figcaption>{html.escape(caption)}'
        "</figcaption></figure>\n"
        for name, caption in result["pictures"].items()
    )
    return (
        f"<h2>{html.escape(result['target'])}, {html.escape(result['data'])}: {html.escape(result['title'])}</h2>\n"
        f"<p>The paper: {html.escape(result['claim'])}</p>\n"
        f"<table><tr>{''.join(f'<th>{each}</th>' for each in heads)}</tr>"
        + "".join(f"<tr>{''.join(f'<td>{each}</td>' for each in row)}</tr>" for row in rows)
        + f"</table>\n{pictures}<ul>{''.join(f'<li>{html.escape(note)}</li>' for note in result['notes'])}</ul>\n"
        f"<p><em>{html.escape(_facts(result))}</em></p>"
    )
