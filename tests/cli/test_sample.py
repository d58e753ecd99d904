"""``falign sample``."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from feature_alignment.cli.main import main
from feature_alignment.cli.outputs import PICTURES
from feature_alignment.models import AE


def model(directory):
    """Save a small model without classes."""
    AE((1, 8, 8), latent=2, channels=(4,), width=8).save_pretrained(directory)


def width(path):
    with Image.open(path) as image:
        image.load()
        return image.size[0]


def test_classes_are_columns_and_a_seed_is_a_picture(run, tmp_path):
    narrow, wide = tmp_path / "narrow.png", tmp_path / "wide.png"
    assert main(["sample", str(run), "--classes", "3", "7", "--rows", "2", "--stress", "2", "--out", str(narrow)]) == 0
    assert main(["sample", str(run), "--rows", "2", "--out", str(wide)]) == 0
    assert width(wide) > 3 * width(narrow) / 1.5
    first = wide.read_bytes()
    assert main(["sample", str(run), "--rows", "2", "--out", str(wide)]) == 0
    assert wide.read_bytes() == first
    assert main(["sample", str(run), "--rows", "2", "--seed", "1", "--out", str(wide)]) == 0
    assert wide.read_bytes() != first


def test_a_temperature_makes_samples_more_alike(run, tmp_path, capsys):
    out, pictures = tmp_path / "out.png", []
    for temperature in ("1", "0.5", "0"):
        assert main(["sample", str(run), "--rows", "2", "--temperature", temperature, "--out", str(out)]) == 0
        pictures.append(out.read_bytes())
    assert len({*pictures}) == 3
    for wrong in ("-1", "inf", "nan"):
        assert main(["sample", str(run), "--temperature", wrong, "--out", str(out)]) == 2
        assert "--temperature: expected a number of at least 0, got" in capsys.readouterr().err


@pytest.mark.parametrize("ending", PICTURES)
def test_a_picture_of_any_ending_is_written_to_that_file(ending, tmp_path):
    model(tmp_path / "run")
    assert main(["sample", str(tmp_path / "run"), "--rows=1", "--out", str(tmp_path / f"out{ending}")]) == 0
    assert (tmp_path / f"out{ending}").stat().st_size > 0


def test_a_stress_without_classes_is_refused(tmp_path, capsys):
    model(tmp_path / "run")
    assert main(["sample", str(tmp_path / "run"), "--stress=5"]) == 2
    assert "--stress: emphasises a class; this AE was trained without classes" in capsys.readouterr().err


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="nobody can write to /proc, not even root")
@pytest.mark.parametrize(
    "arguments",
    [
        ["sample", "--out=/proc/a.png"],
        ["evaluate", "--out=/proc/a.json"],
        ["score", "a.png", "--out=/proc/a.csv"],
        ["score", "a.png", "--maps=/proc"],
        ["reconstruct", "a.png", "--out=/proc/"],
    ],
)
def test_a_directory_that_cannot_be_written_to_is_refused_before_any_computation(
    arguments, tmp_path, monkeypatch, capsys
):
    model(tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    Image.new("L", (8, 8)).save("a.png")
    monkeypatch.setattr(AE, "reconstruct", lambda *_: pytest.fail("computed"))
    monkeypatch.setattr(AE, "sample", lambda *_, **__: pytest.fail("computed"))
    assert main([arguments[0], "run", *arguments[1:]]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    place = arguments[-1].replace("=", " ").rstrip("/")
    assert line.startswith(f"falign: error: {place}: nothing can be written to /proc (")


def test_a_picture_too_large_for_its_format_is_one_line(tmp_path, capsys):
    model(tmp_path / "run")
    assert main(["sample", str(tmp_path / "run"), "--rows=250", "--out", str(tmp_path / "out.webp")]) == 2
    assert "webp holds at most 16,383 pixels a side" in capsys.readouterr().err
    assert not (tmp_path / "out.webp").exists()
