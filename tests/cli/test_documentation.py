"""The Python and the command lines that README and docs/ show."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import torch
from torch import nn

from feature_alignment.cli.commands import COMMANDS
from feature_alignment.models import FA

ROOT = Path(__file__).parents[2]
PAGES = {path.relative_to(ROOT).as_posix(): path.read_text() for path in [ROOT / "README.md", *ROOT.glob("docs/*.md")]}
#: Pages whose Python needs files that tests of their own make, or starts a server.
ELSEWHERE = {"docs/explorer.md", "docs/sharing.md"}
#: Indented command lines; words in capitals stand for something of the reader's.
COMMAND = re.compile(r"^ {4}(?:\.venv/bin/)?falign (?!.*\b[A-Z]{3,})([^|\n]+?)(?: {2,}#.*)?$", re.MULTILINE)
LINES = sorted({line for text in PAGES.values() for line in COMMAND.findall(text)})


#: What a page's Python has shown at its end.
SHOWN = {
    "README.md": lambda names: names["found"].converged.all() and names["found"].input.shape == (2, 3, 16, 16),
    "docs/local.md": lambda names: names["reconstruction"].shape == (64, 1, 28, 28) and len(names["losses"]) == 2,
    "docs/own-network.md": lambda names: names["feature"].shape == (128, 1, 28, 28) and names["feature"].requires_grad,
    "docs/training.md": lambda names: names["samples"].shape == (10, 1, 28, 28) and names["updates"].done == 3,
}


def names_of_the_reader():
    """What a page takes as given: a network, whose images are pixels in [0, 1], and a model of them."""
    network = nn.Sequential()
    network.add_module("layer3", nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.SiLU(), nn.Flatten()))
    model = FA((3, 16, 16), latent=4, channels=(4,), width=16)
    images, grey = torch.rand(2, 3, 16, 16), torch.full((1, 3, 16, 16), 0.5)
    return {"network": network, "model": model, "images": images, "grey": grey}


def blocks(text):
    return re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", sorted(page for page, text in PAGES.items() if blocks(text) and page not in ELSEWHERE))
def test_the_python_of_a_page_runs_from_its_first_block_to_its_last(page, request, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if any("runs/quickstart" in block for block in blocks(PAGES[page])):
        (tmp_path / "runs").mkdir()
        (tmp_path / "runs" / "quickstart").symlink_to(request.getfixturevalue("run"))
    names = names_of_the_reader()
    for block in blocks(PAGES[page]):
        exec(block.replace("torch.rand(100, ", "torch.rand(3, "), names)
    assert SHOWN.get(page, lambda _: True)(names)


@pytest.mark.parametrize("line", LINES)
def test_a_command_line_is_understood(line):
    name, *arguments = shlex.split(line)
    COMMANDS[name].parse(arguments)


def test_command_lines_are_found():
    assert "sample runs/quickstart --classes 3 7 --stress 2 --out sample.png" in LINES
    assert len(LINES) > 10
