"""``falign sample``."""

from __future__ import annotations

from PIL import Image

from feature_alignment.cli.main import main


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
