"""The average of the weights against the sum written out, and when it is used."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from feature_alignment.models.averaging import Averaged


@pytest.mark.parametrize("decay", [0.5, 0.99])
def test_the_average_is_the_weighted_sum_of_all_weights(decay):
    torch.manual_seed(0)
    network = Averaged(nn.Linear(3, 2).double(), decay)
    history = torch.randn(30, 2, 3, dtype=torch.float64)
    for weight in history:
        network.live.weight.data.copy_(weight)
        network.update()
    shares = [1.0]  # of each update in the average, oldest first
    for number in range(1, 30):
        kept = min(decay, (1 + number) / (10 + number))
        shares = [kept * share for share in shares] + [1 - kept]
    assert sum(shares) == pytest.approx(1)
    expected = (torch.tensor(shares, dtype=torch.float64)[:, None, None] * history).sum(0)
    images = torch.randn(4, 3, dtype=torch.float64)
    torch.testing.assert_close(network.eval()(images), images @ expected.T + network.live.bias)
    torch.testing.assert_close(network.train()(images), images @ history[-1].T + network.live.bias)


def test_the_average_is_state_without_gradients_and_has_the_networks_buffers():
    network = Averaged(nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)), 0.9)
    network(5 + torch.randn(8, 3))
    network.update()
    assert {name.split(".")[0] for name, each in network.named_parameters() if each.requires_grad} == {"live"}
    assert torch.equal(network.average.module[1].running_mean, network.live[1].running_mean)
    assert int(network.state_dict()["average.n_averaged"]) == 1


def test_the_average_of_weights_in_half_precision_is_kept_in_single_precision():
    """200 updates of 0.5 % each towards 2: in bfloat16, whose numbers there are 0.0078 apart, none would count."""
    network = Averaged(nn.Linear(1, 1, bias=False), 0.995).to(torch.bfloat16)
    nn.init.ones_(network.live.weight)
    network.update()
    network.average.n_averaged.fill_(10_000)
    nn.init.constant_(network.live.weight, 2)
    for _ in range(200):
        network.update()
    found = network.eval()(torch.ones(1, 1, dtype=torch.bfloat16))
    assert (network.live.weight.dtype, found.dtype) == (torch.bfloat16, torch.bfloat16)
    assert float(network.average.module.weight) == pytest.approx(2 - 0.995**200, rel=1e-4)
    assert float(found) == pytest.approx(2 - 0.995**200, rel=1e-2)
