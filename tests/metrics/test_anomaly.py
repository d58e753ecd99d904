"""Anomaly scores against naive sums, and that they find what is strange."""

from __future__ import annotations

import pytest
import torch

from feature_alignment.metrics.anomaly import error_maps, worst_region


def test_a_map_is_the_squared_error_of_every_pixel():
    one, two = torch.rand(2, 3, 3, 5, 4, dtype=torch.double, generator=torch.Generator().manual_seed(0))
    found = error_maps(one, two)
    for sample in range(3):
        for row in range(5):
            for column in range(4):
                wanted = sum(float(one[sample, c, row, column] - two[sample, c, row, column]) ** 2 for c in range(3))
                assert found[sample, row, column] == pytest.approx(wanted)


def test_the_worst_region_is_the_square_with_the_largest_sum():
    maps = torch.rand(6, 9, 7, dtype=torch.double, generator=torch.Generator().manual_seed(1))
    found = worst_region(maps, 3)
    for sample, (top, left, share) in enumerate(zip(*(each.tolist() for each in found), strict=True)):
        sums = {(i, j): float(maps[sample, i : i + 3, j : j + 3].sum()) for i in range(7) for j in range(5)}
        best = max(sums, key=lambda place: sums[place])
        assert (top, left) == best
        assert share == pytest.approx(sums[best] / float(maps[sample].sum()))
    assert worst_region(torch.zeros(1, 4, 4), 2).share.tolist() == [0]
    assert worst_region(maps, 7).left.tolist() == [0] * 6


@pytest.mark.parametrize("side", [0, 8])
def test_a_side_out_of_range_is_refused(side):
    with pytest.raises(ValueError, match=f"side: expected 1 to 7, got {side}"):
        worst_region(torch.zeros(1, 9, 7), side)


def test_other_shapes_are_refused():
    with pytest.raises(ValueError, match=r"expected shape \(1, 1, 2, 2\), got \(2, 1, 2, 2\)"):
        error_maps(torch.zeros(1, 1, 2, 2), torch.zeros(2, 1, 2, 2))
