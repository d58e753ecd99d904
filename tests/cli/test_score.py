"""``falign score``: the errors are those of the model's reconstructions, and the region is where the damage is."""

from __future__ import annotations

import csv
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from feature_alignment.cli import score
from feature_alignment.cli.main import main
from feature_alignment.data import load
from feature_alignment.models import AE, FA, GON, VAE, VFA, Local, Model, Updates


@pytest.fixture(scope="module")
def digits():
    return load("mnist-mini", "test").pixels


@pytest.fixture
def folder(tmp_path, digits):
    """A digit, the same one with a bright square, of equal stem in another folder, and a third."""
    for name, number in (("a/x.png", 1), ("b/x.png", 1), ("b/y.png", 2)):
        pixels = digits[number, 0].numpy().copy()
        if name == "b/x.png":
            pixels[2:6, 20:24] = 255
        (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / "images" / name)
    (tmp_path / "images" / "b" / "z.png").write_text("no image")
    return tmp_path / "images"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """An autoencoder of a few updates on digits."""
    torch.manual_seed(0)
    train = load("mnist-mini", "train")
    model = AE((1, 28, 28), latent=16, channels=(8, 16), width=64, activation="silu", learning_rate=3e-3)
    updates = Updates(model, 40)
    for update in range(40):
        updates.step(train.pixels[torch.arange(update * 32, update * 32 + 32) % len(train)])
    place = tmp_path_factory.mktemp("scored") / "run"
    model.eval().save_pretrained(place)
    return place


def rows_of(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def test_errors_and_the_place_of_the_damage(trained, folder, tmp_path, capsys):
    out, maps = tmp_path / "scores.csv", tmp_path / "maps"
    assert main(["score", str(trained), str(folder), f"--out={out}", f"--maps={maps}"]) == 0
    said = capsys.readouterr()
    assert "skipped" in said.err
    assert "z.png: not a readable image" in said.err
    rows, model = rows_of(out), Model.from_pretrained(trained)
    worst = max(rows, key=lambda row: float(row["error"]))
    assert said.out.splitlines()[0] == f"3 images; largest error {float(worst['error']):.4g}: {worst['file']}"
    assert float(rows[1]["error"]) > float(rows[0]["error"]) + 10
    assert [Path(row["file"]).relative_to(folder).as_posix() for row in rows] == ["a/x.png", "b/x.png", "b/y.png"]
    for row in rows:
        x = torch.tensor(np.asarray(Image.open(row["file"])))[None, None] / 255
        with torch.no_grad():
            error = (x - model.decoder(model.mean(model.encoder(x)))).square()
        assert float(row["error"]) == pytest.approx(float(error.sum()), rel=1e-4)
        top, left, side = (int(row[each]) for each in ("top", "left", "side"))
        there = error[0, 0, top : top + side, left : left + side].sum()
        assert float(row["share"]) == pytest.approx(float(there / error.sum()), abs=1e-4)
    assert (int(rows[1]["top"]), int(rows[1]["left"]), int(rows[1]["side"])) == (2, 20, 4)
    names = ["a-x.png.png", "b-x.png.png", "y.png"]
    assert sorted(path.name for path in maps.iterdir()) == names
    heat = np.asarray(Image.open(maps / "b-x.png.png"), float).sum(2)
    assert heat.shape == (28, 28)
    assert heat[2:6, 20:24].min() > 1.5 * heat.mean()


@pytest.mark.parametrize("kind", [FA, VFA, VAE, GON, Local])
def test_every_model_that_reconstructs(kind, folder, tmp_path):
    torch.manual_seed(0)
    model = kind((1, 28, 28), latent=4, channels=(4,), width=16).eval()
    model.save_pretrained(tmp_path / "run")
    assert main(["score", str(tmp_path / "run"), str(folder), "--negative"]) == 0
    row = rows_of(tmp_path / "run" / "scores.csv")[0]
    x = 1 - torch.tensor(np.asarray(Image.open(row["file"])))[None, None] / 255
    assert float(row["error"]) == pytest.approx(float((x - model.reconstruct(x)).square().sum()), rel=1e-3)


def test_images_of_12_bits_are_scaled_by_the_white_of_the_model(trained, tmp_path, recwarn):
    model = Model.from_pretrained(trained)
    model.white = {"integers": 4095.0}
    model.save_pretrained(tmp_path / "run")
    (tmp_path / "images").mkdir()
    for largest in (200, 900, 4000):  # alone, 255, 1023 and 4095 would be taken for white
        values = np.linspace(0, largest, 28 * 28).astype(np.uint16).reshape(28, 28)
        Image.fromarray(values).save(tmp_path / "images" / f"{largest}.png")
    assert main(["score", str(tmp_path / "run"), str(tmp_path / "images")]) == 0
    for row in rows_of(tmp_path / "run" / "scores.csv"):
        x = torch.tensor((np.asarray(Image.open(row["file"])) / 4095 * 255).round() / 255).float()[None, None]
        assert float(row["error"]) == pytest.approx(float((x - model.reconstruct(x)).square().sum()), rel=1e-3)
    assert not [each for each in recwarn if "guess" in str(each.message)]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda each: each.name)
def test_what_was_scored_stays_when_it_is_interrupted(number, trained, folder, tmp_path, monkeypatch, capsys):
    def interrupted(*_):
        yield dict(zip(score.COLUMNS, ("a", 1.0, 0, 0, 4, 0.5), strict=True))
        signal.raise_signal(number)

    monkeypatch.setattr(score, "_rows", interrupted)
    out = tmp_path / "s.csv"
    assert main(["score", str(trained), str(folder), f"--out={out}"]) == 128 + number
    assert f"interrupted (what was scored, if anything, is in {out})" in capsys.readouterr().err
    assert [row["file"] for row in rows_of(tmp_path / "s.csv")] == ["a"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["RUN", "nowhere"], "images: none can be read in nowhere"),
        (["RUN", "empty"], "empty: no images in this folder"),
        (["RUN", "images", "--out=s.png"], "--out s.png: expected a name ending in .csv"),
        (["RUN", "images", "--out=empty"], "--out empty: is a folder; expected a name ending in .csv"),
        (["RUN", "images", "--region=29"], "--region: expected 1 to 28, got 29"),
        (["RUN", "images", "--maps=images/a/x.png"], "--maps images/a/x.png: is a file, expected a folder"),
        (["RUN", "images/b", "--maps=images/b"], "--maps images/b: is in images/b, where the next call would"),
        (["RUN", "images/b", "--maps=link"], "--maps link: is in images/b, where the next call would read"),
        (["RUN", "images", "--maps=images/a/maps"], "--maps images/a/maps: is in images, where the next call would"),
        (["nowhere", "images"], "nowhere: no such run directory"),
        (["RUN"], "the following arguments are required: FOLDER"),
    ],
)
def test_every_mistake_is_one_line_and_exit_code_2(arguments, message, trained, folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(folder / "b")
    before = {path: path.read_bytes() for path in folder.rglob("*.png")}
    assert main(["score", *(str(trained) if each == "RUN" else each for each in arguments)]) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if "warning: skipped" not in line]
    assert len(errors) == 1, errors
    assert errors[0].startswith(f"falign: error: {message}")
    assert {path: path.read_bytes() for path in folder.rglob("*.png")} == before


def test_errors_that_are_no_numbers_are_told_of(trained, folder, tmp_path, capsys):
    model = Model.from_pretrained(trained)
    with torch.no_grad():
        next(model.parameters())[:] = torch.nan
    model.save_pretrained(tmp_path / "lost")
    assert main(["score", str(tmp_path / "lost"), str(folder), f"--out={tmp_path / 'scores.csv'}"]) == 0
    assert "the errors of 3 of 3 images are no finite numbers" in capsys.readouterr().err
    assert {row["share"] for row in rows_of(tmp_path / "scores.csv")} == {"nan"}
