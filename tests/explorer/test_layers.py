"""The layers of networks, and pictures that have a layer's output."""

from __future__ import annotations

import torch
from torch import nn

from feature_alignment.explorer.layers import layers_of, pre_image
from feature_alignment.networks import LoadedNetwork


class Branching(nn.Module):
    """Calls one layer twice, one never, and returns two outputs."""

    def __init__(self):
        super().__init__()
        self.used, self.unused = nn.Linear(64, 64), nn.Linear(64, 2)

    def forward(self, x):
        hidden = self.used(self.used(x.flatten(1)).tanh())
        return hidden, hidden.sum(1)


def test_layers_are_those_that_are_called_once_each():
    found = layers_of(LoadedNetwork("mine", Branching(), (1, 8, 8)))
    assert [layer.title for layer in found] == ["used · Linear · 64", "output · Branching · several outputs"]
    assert [layer.name for layer in found] == ["used", ""]


def test_a_function_has_its_output_alone():
    (layer,) = layers_of(LoadedNetwork("mine", torch.tanh, (1, 8, 8)))
    assert layer.shape == (1, 8, 8)


def test_the_pre_image_of_an_invertible_layer_is_the_picture():
    torch.manual_seed(0)
    inside = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.Linear(64, 3))
    nn.init.orthogonal_(inside[1].weight)
    network = LoadedNetwork("mine", inside.requires_grad_(False), (1, 8, 8))
    image, counts = 0.2 + 0.6 * torch.rand(1, 1, 8, 8), []
    found = pre_image(network, "1", image, 100, counts.append)
    assert found.converged
    assert (found.input - image).abs().max() < 0.05
    assert counts == [*range(1, len(counts) + 1)]
    assert len(counts) >= int(found.evaluations) / 2
    few = pre_image(network, "1", image, 3)
    assert int(few.evaluations) <= 3
    assert inside(image).shape == (1, 3)
    assert not inside._forward_pre_hooks


def test_several_outputs_and_functions_have_pre_images_too():
    torch.manual_seed(0)
    for module in (Branching().requires_grad_(False), torch.tanh):
        image = torch.rand(1, 1, 8, 8)
        found = pre_image(LoadedNetwork("mine", module, (1, 8, 8)), "", image, 200)
        assert found.residual < 0.05
