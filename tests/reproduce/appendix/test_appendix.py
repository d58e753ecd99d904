"""The whole study."""

from __future__ import annotations

import json

import pytest
import torch

from feature_alignment.reproduce.appendix import appendix_a


@pytest.mark.slow
def test_the_whole_study(images, tmp_path):
    torch.manual_seed(7)
    state = torch.get_rng_state()
    found = appendix_a(tmp_path / "study", images, [0, 1], 2)
    assert torch.equal(torch.get_rng_state(), state)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    for part in ("features", "weights", "clamp"):
        assert found[part]["claim"]
        assert found[part]["holds"]
        picture = tmp_path / "study" / f"appendix-a-{part}.png"
        assert picture.read_bytes()[:4] == b"\x89PNG"
    again = appendix_a(tmp_path / "again", images, [0, 1], 2)
    assert again == found


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"images": torch.rand(4, 9)}, "images: expected shape"),
        ({"images": torch.rand(0, 1, 4, 4)}, "images: expected shape"),
        ({"seeds": []}, "seeds: expected at least one"),
        ({"steps": 0}, "steps: expected at least 1, got 0"),
    ],
)
def test_bad_input(images, tmp_path, changes, words):
    with pytest.raises(ValueError, match=words):
        appendix_a(tmp_path, **{"images": images, "seeds": [0], "steps": 1, **changes})
