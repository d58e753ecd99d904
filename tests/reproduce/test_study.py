"""Numbers over seeds."""

from __future__ import annotations

import pytest

from feature_alignment.reproduce.study import cell


def test_mean_and_sample_standard_deviation():
    assert cell([1.0, 2.0, 4.0]) == {"values": [1, 2, 4], "mean": pytest.approx(7 / 3), "std": pytest.approx(1.527525)}
    assert cell([5.0])["std"] is None
