"""docs/extending.md: every file, registry and name to copy that it mentions is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "feature_alignment"
ROWS = [line for line in (ROOT / "docs" / "extending.md").read_text().splitlines() if re.match(r"\| [a-z]", line)][1:]
KINDS = [
    "step rule", "start", "solver", "variables", "layer rule", "model", "sampler", "data set", "metric", "figure",
    "rival", "library of networks", "command",
]  # fmt: skip


def cells(row):
    return [cell.strip() for cell in row.strip("|").split("|")]


def test_every_kind_has_its_line():
    assert [cells(row)[0] for row in ROWS] == KINDS


@pytest.mark.parametrize("row", ROWS, ids=KINDS)
def test_what_a_line_names_is_there(row):
    kind, where, how, copied = cells(row)
    if "to come" in where:
        pytest.skip(f"{kind}: to come")
    place = PACKAGE / re.search(r"`([\w/.]+)`", where)[1]
    assert place.exists()
    registry = re.search(r"an entry in `(\w+)`(?: of `([\w/.]+)`)?", how)
    if registry:
        assert re.search(rf"^{registry[1]}\b", (PACKAGE / (registry[2] or place)).read_text(), re.MULTILINE)
    names = re.findall(r"`([\w./\"]+)`", copied)
    source = place / names.pop() if place.is_dir() else place  # of a folder, the file to copy is named last
    assert source.is_file()
    assert all(name in source.read_text() for name in names)
