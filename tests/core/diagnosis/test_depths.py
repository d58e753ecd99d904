"""Where a network is measured, against networks whose bottlenecks are known and graphs searched naively."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from feature_alignment.core.diagnosis import find_layers
from feature_alignment.core.diagnosis.cuts import cuts
from feature_alignment.core.graphs import nodes


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


class Block(nn.Module):
    """A residual block."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(6, 6)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        return self.relu(self.inner(self.relu(x.clone())) + x)


class Network(nn.Module):
    def __init__(self, blocks=2):
        super().__init__()
        self.stem = nn.Linear(4, 6)
        self.norm = nn.BatchNorm1d(6)
        self.blocks = nn.Sequential(*(Block() for _ in range(blocks)))
        self.unused = nn.Linear(6, 6)
        self.recurrent = nn.GRU(6, 6, batch_first=True)
        self.head = nn.Linear(6, 3)
        self.auxiliary = nn.Linear(6, 2)

    def forward(self, x):
        h = self.blocks(self.norm(self.stem(x)))
        self.auxiliary(h)
        h, _ = self.recurrent(h.unsqueeze(1))
        return self.head(h.squeeze(1))


def test_all_information_passes_through_the_layers_found_in_their_order():
    images = torch.rand(2, 4)
    assert find_layers(Network().eval(), images) == ["norm", "blocks.0", "blocks", "head"]
    everything = find_layers(Network().eval(), images, "all")
    assert everything == ["stem", "norm", "blocks.0.relu", "blocks.0.inner", "blocks.0", "blocks.1.relu",
                          "blocks.1.inner", "blocks", "auxiliary", "head"]  # fmt: skip
    assert not any(module._forward_hooks for module in Network().modules())


def test_of_many_layers_the_first_the_last_and_the_outermost_are_kept():
    found = find_layers(Network(30).eval(), torch.rand(2, 4))
    assert len(found) == 12
    assert (found[0], found[-2], found[-1]) == ("norm", "blocks", "head")
    numbers = [int(name.split(".")[1]) for name in found[1:-2]]
    gaps = {after - before for before, after in itertools.pairwise(numbers)}
    assert numbers == sorted(numbers)
    assert gaps <= {3, 4}
    assert len(find_layers(Network(30).eval(), torch.rand(2, 4), most=5)) == 5


def test_normalisation_activation_and_shape_belong_to_the_layer_before_them():
    network = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.PReLU(4), nn.Dropout(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(4, 4)
    )
    assert find_layers(network.eval(), torch.rand(1, 1, 4, 4)) == ["2", "5", "6"]
    prepared = nn.Sequential(nn.InstanceNorm2d(1), nn.Flatten(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 2))
    assert find_layers(prepared, torch.rand(1, 1, 4, 4)) == ["3", "4"]
    assert find_layers(nn.Sequential(nn.Flatten(), nn.ReLU()), torch.rand(1, 1, 4, 4)) == ["1"]


class Functional(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 6)

    def forward(self, x):
        return self.linear(x)[:, :3].exp()


def test_what_is_no_module_is_the_network_itself():
    assert find_layers(Functional(), torch.rand(1, 4)) == ["linear", ""]
    assert find_layers(torch.sigmoid, torch.rand(1, 4)) == [""]
    with torch.no_grad():
        assert find_layers(Functional(), torch.rand(1, 4)) == ["linear", ""]


def test_where_no_module_has_everything_it_is_the_network_itself():
    class Heads(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(4, 2), nn.Linear(4, 3)

        def forward(self, x):
            return self.a(x), self.b(x)

    class Named(nn.Module):
        def forward(self, x):
            return {"twice": 2 * x}

    for network in (Heads(), Named()):
        assert find_layers(network, torch.rand(2, 4)) == [""]
    assert find_layers(nn.Sequential(nn.Linear(4, 3), nn.Tanh()), torch.rand(2, 4, requires_grad=True)) == ["1"]


def test_the_cuts_of_random_graphs_are_those_found_by_leaving_out_each_node():
    for seed in range(20):
        torch.manual_seed(seed)
        x = torch.randn(2, requires_grad=True)
        values = [x.exp()]
        for _ in range(12):
            first, second = torch.randint(max(0, len(values) - 3), len(values), (2,)).tolist()
            values.append(values[first] * values[second] if torch.rand(()) < 0.5 else values[first].sin())
        outputs = values[-1 - seed % 2 :]
        everything = [node for node in nodes(outputs) if not hasattr(node, "variable")]
        assert cuts(outputs, x) == {node for node in everything if not reaches(outputs, x, node)}


def reaches(outputs, x, without):
    """Whether the input is found from the outputs when a node is left out."""
    waiting, seen = [each.grad_fn for each in outputs], set()
    while waiting:
        node = waiting.pop()
        if node is None or node is without or node in seen:
            continue
        if getattr(node, "variable", None) is x:
            return True
        seen.add(node)
        waiting += [following for following, _ in node.next_functions]
    return False


def test_layers_are_found_in_inference_mode_too():
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3))
    with torch.inference_mode():
        assert find_layers(network, torch.rand(1, 1, 4, 4)) == ["2", "3"]


class Residual(nn.Module):
    """A residual block whose activations are modules of their own, as in timm."""

    def __init__(self, channels):
        super().__init__()
        self.conv1, self.act1 = nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU()
        self.conv2, self.act2 = nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU()

    def forward(self, x):
        return self.act2(x + self.conv2(self.act1(self.conv1(x))))


def test_a_block_that_ends_in_an_activation_is_no_activation():
    network = nn.Sequential(Residual(3), Residual(3), nn.Flatten(), nn.Linear(48, 5))
    assert find_layers(network, torch.rand(1, 3, 4, 4)) == ["0", "2", "3"]  # Flatten belongs to the second block
    stem = nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU(), Residual(3), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(12, 5))
    assert find_layers(stem, torch.rand(1, 3, 4, 4)) == ["1", "2", "4", "5"]


def test_layers_of_a_transformer_are_found_wherever_it_normalises():
    for first in (False, True):
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, norm_first=first)
        network = nn.Sequential(nn.TransformerEncoder(layer, 3, enable_nested_tensor=False), nn.Flatten()).eval()
        found = find_layers(network, torch.rand(1, 4, 8))
        assert {"0.layers.0", "0.layers.1"} <= set(found), found
