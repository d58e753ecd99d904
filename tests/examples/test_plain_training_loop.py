"""The loop that is shown is the loop that works."""

import runpy
from pathlib import Path

EXAMPLE = Path(__file__).parents[2] / "examples" / "plain_training_loop.py"


def test_it_trains_in_ten_lines_and_beats_the_mean_image(capsys):
    example = runpy.run_path(str(EXAMPLE))
    assert example["main"](count=100) < 51  # the mean image: 53
    assert "held-out reconstruction error" in capsys.readouterr().out
    body = EXAMPLE.read_text().partition("updates = Updates")[2].partition("error =")[0]
    assert len([line for line in body.splitlines() if line.strip()]) <= 10
