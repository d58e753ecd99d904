"""Figure 5a."""

from __future__ import annotations

import pytest
import torch

from feature_alignment.reproduce.targets.latent_plane import neighbours_agree


def test_neighbours_agree_by_hand():
    points = torch.tensor([[0.0, 0], [0, 1], [0, 2.5], [9, 9], [9, 8]])
    labels = torch.tensor([0, 0, 1, 1, 1])
    # Of the two nearest: 1 and 2 for 0, 0 and 2 for 1, 1 and 0 for 2, 4 and 2 for 3, 3 and 2 for 4.
    assert neighbours_agree(points, labels, 2) == pytest.approx((0.5 + 0.5 + 0 + 1 + 1) / 5)
