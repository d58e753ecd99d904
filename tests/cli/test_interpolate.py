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
