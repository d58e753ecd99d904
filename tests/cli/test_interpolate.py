"""``falign interpolate``."""

from __future__ import annotations

from PIL import Image

from feature_alignment.cli.main import main


def test_between_images_and_between_draws(run, tmp_path):
    images, draws = tmp_path / "images.png", tmp_path / "draws.png"
    assert main(["interpolate", str(run), "--size", "3", "--out", str(images)]) == 0
    assert main(["interpolate", str(run), "--random", "--size", "4", "--out", str(draws)]) == 0
    with Image.open(images) as small, Image.open(draws) as large:
        assert large.size[0] > small.size[0]


def test_fewer_than_four_held_out_images_are_one_line(tmp_path, capsys, no_report):
    (images := tmp_path / "images").mkdir()
    for number in range(16):  # of which two are held out
        Image.new("L", (16, 16), 15 * number).save(images / f"{number}.png")
    small = ["--model.latent=3", "--model.width=8", "--model.channels=[4]", "--training.steps=1", "--data.batch_size=4"]
    data = [f"--data.name={images}", "--data.image_size=16", f"--out={tmp_path / 'run'}"]
    assert main(["train", "--model=AE", *small, *data]) == 0
    capsys.readouterr()
    assert main(["interpolate", str(tmp_path / "run"), "--out", str(tmp_path / "a.png")]) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.endswith("held out, a grid needs 4 corners; give four files, or --random")
