"""Numbers as JSON holds them."""

from __future__ import annotations

import math

import numpy as np

from feature_alignment.reproduce.appendix.numbers import finite


def test_numbers_that_json_does_not_have_become_none():
    assert finite({"a": [math.inf, 1.0, np.float64(2)], "b": (math.nan, 3)}) == {
        "a": [None, 1.0, 2.0],
        "b": [None, 3],
    }
