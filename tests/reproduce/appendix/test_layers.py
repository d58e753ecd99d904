"""Initial weights."""

from __future__ import annotations

import pytest
import torch
from seeds import generator
from torch import nn

from feature_alignment.reproduce.appendix.layers import linear


def test_initial_weights():
    weight = linear(50, 20, "orthogonal", generator(), 2).weight
    torch.testing.assert_close(weight @ weight.T, 4 * torch.eye(20))
    # PyTorch's own default is uniform too: same range, same spread.
    torch.manual_seed(0)
    own = nn.Linear(400, 300, bias=False).weight.detach()
    weight = linear(400, 300, "default", generator()).weight.detach()
    assert float(weight.abs().max()) == pytest.approx(float(own.abs().max()), rel=1e-3)
    assert float(weight.std()) == pytest.approx(float(own.std()), rel=1e-2)
    torch.testing.assert_close(linear(400, 300, "default", generator(), 3).weight.detach(), weight * 3)
