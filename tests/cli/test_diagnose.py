"""``falign diagnose``: a small network of the user's own and photographs; what stops it, and what stays."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time

import pytest
import skimage.data
from PIL import Image

from feature_alignment.cli.main import main

MINE = """
import time
import torch
from torch import nn

def small(width=8, slow=0.0):
    torch.manual_seed(0)
    convolutions = nn.Conv2d(3, width, 3, 2, 1), nn.ReLU(), nn.Conv2d(width, 16, 3, 2, 1), nn.ReLU()
    return nn.Sequential(*convolutions, nn.Flatten(), *([Slow(slow)] if slow else []), nn.Linear(1024, 10))

class Slow(nn.Module):
    def __init__(self, seconds):
        super().__init__()
        self.seconds = seconds

    def forward(self, x):
        time.sleep(self.seconds)
        return x

def grey():
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten())
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A directory with the network, photographs and a file that is no image."""
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "photos").mkdir()
    for name in ("astronaut", "chelsea", "coffee"):
        Image.fromarray(getattr(skimage.data, name)()).resize((80, 64)).save(tmp_path / "photos" / f"{name}.jpg")
    (tmp_path / "photos" / "broken.jpg").write_bytes(b"no image")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    return tmp_path


def test_a_network_of_ones_own_is_measured_and_drawn(place, capsys):
    options = ["--size=32", "--evaluations=20"]
    assert main(["diagnose", "mine:small", "--images", "photos", "--out", "out", *options, "--against=mine:small",
                 "--against-init=width=4"]) == 0  # fmt: skip
    said = capsys.readouterr()
    assert "broken.jpg" in said.err
    assert "Wrote out/report.html" in said.out
    entries = json.loads((place / "out" / "layers.json").read_text())
    assert [(entry["name"], entry["size"]) for entry in entries] == [("1", 2048), ("4", 1024), ("5", 10)]
    assert entries[0]["information"] > 0.6 > entries[2]["information"]
    assert all(len(entry["information_by_image"]) == 3 for entry in entries)
    assert json.loads((place / "out" / "against.json").read_text())[0]["size"] == 1024
    assert Image.open(place / "out" / "strips.png").size > (300, 200)
    assert main(["diagnose", "mine:small", "--images", "photos", "--out", "b", *options, "--layers", "3", "0"]) == 0
    assert [entry["name"] for entry in json.loads((place / "b" / "layers.json").read_text())] == ["3", "0"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--layers", "layer9"], "--layers: mine:small: the network has no module 'layer9'; it has modules such as 0,"),
        (["--images", "nowhere"], "nowhere"),
        (["--images", "photos/broken.jpg"], "can be read as an image"),
        (["--out", "mine.py"], "--out mine.py: is a file, expected a folder"),
        (["--count", "0"], "--count: expected at least 1, got 0"),
        (["--variables", "naturl"], "--variables naturl: expected pixels, bounded, natural"),
        (["--against", "mine:grey"], "--against mine:grey: takes images of 1 x 32 x 32, mine:small of 3 x 32 x 32"),
        (["--against-weights", "nowhere.pt", "--against-random"], "--against-weights, --against-random: say more of a"),
        (["--images", "photos", "--out", "photos"], "--out photos: is in photos, where the next call would"),
        (["--out", "run"], "--out run: is a run or a model, whose report would be replaced"),
        (["--tolerance", "-1"], "mine:small: tol: expected"),
    ],
)
def test_what_cannot_be_done_is_one_line(place, arguments, words, capsys):
    Image.new("RGB", (80, 64)).save(place / "photos" / "strips.png")
    (place / "run").mkdir(exist_ok=True)
    (place / "run" / "config.yaml").touch()
    given = ["diagnose", "mine:small", "--images", "photos", "--out", "out", "--size", "32", *arguments]
    assert main(given) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("falign: error: ")
    assert words in line


def test_what_is_measured_when_it_is_stopped_is_written(place):
    command = [sys.executable, "-m", "feature_alignment", "diagnose", "mine:small", "--images", "photos", "--size=32",
               "--init=slow=1.0", "--out=out", "--evaluations=5", "--layers", "0", "1", "6"]  # fmt: skip
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        waited = time.monotonic()
        while not (place / "out" / "report.html").exists() and time.monotonic() - waited < 120:
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        said = process.communicate()[1]
    assert process.returncode == 128 + signal.SIGTERM
    assert said.splitlines()[-1] == "falign: interrupted (what was measured is in out)"
    assert 1 <= len(json.loads((place / "out" / "layers.json").read_text())) < 3


@pytest.mark.parametrize(
    "arguments", [["--layers=nope"], ["--out=photos/report"], ["--variables=fitted", "--out=fitted/report"]]
)
def test_a_refused_command_leaves_no_folder(place, arguments, capsys):
    shutil.copytree("photos", "fitted", dirs_exist_ok=True)
    before = sorted(place.rglob("*"))
    assert main(["diagnose", "mine:small", "--images=photos", "--out=new/report", "--size=32", *arguments]) == 2
    assert sorted(each for each in place.rglob("*") if "__pycache__" not in each.parts) == [
        each for each in before if "__pycache__" not in each.parts
    ]
