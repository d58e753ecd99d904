"""What is asked of `load` and `read_image`."""

from __future__ import annotations

import pytest

from feature_alignment.data import DataError, load


def test_wrong_settings_are_named():
    for settings, message in [
        ({"channels": 2}, "channels: expected 1 or 3, got 2"),
        ({"image_size": 0}, "image_size: expected at least 1, got 0"),
        (
            {"image": "img"},
            "image, label, config: are of a data set of the Hugging Face Hub, which 'mnist-mini' is not",
        ),
    ]:
        with pytest.raises(DataError, match=message):
            load("mnist-mini", "test", **settings)
