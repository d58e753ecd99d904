"""The tables of Appendix B, counted by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from feature_alignment.models import VFA
from feature_alignment.models.networks import Discriminator, Encoder, Refiner, orthogonal_


def parameters_of_table(colours, channels, side, width):
    """Weights and biases of the table's rows, counted from its text."""
    total = 0
    for filters in channels:
        total += filters * colours * 9 + filters  # Conv2d(f, 3, 1, 1)
        total += filters * filters * 9 + filters  # Conv2d(f, 3, 2, 1)
        colours, side = filters, side // 2
    return total + colours * side * side * width + width


@pytest.mark.parametrize(
    ("shape", "channels", "width", "flattened"),
    [
        ((1, 28, 28), (32, 64), 4096, 3136),  # Table 2
        ((3, 32, 32), (32, 64, 128), 2048, 2048),  # Table 3
        ((3, 64, 64), (32, 64, 128, 256), 4096, 4096),  # Table 4
    ],
)
def test_encoders_of_the_tables(shape, channels, width, flattened):
    encoder = Encoder(shape, channels, width)
    assert encoder(torch.rand(2, *shape)).shape == (2, width)
    assert encoder[-1].in_features == flattened
    assert sum(p.numel() for p in encoder.parameters()) == parameters_of_table(shape[0], channels, shape[1], width)
    assert [m.stride for m in encoder if isinstance(m, nn.Conv2d)] == [(1, 1), (2, 2)] * len(channels)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"image_shape": (1, 28, 28), "channels": (8, 8, 8)}, "divisible by 8 for 3 entries.*got 28 x 28"),
        ({"image_shape": (1, 28, 32)}, "square images.*got 28 x 32"),
        ({"image_shape": (1, 28, 28), "activation": "swish"}, "activation: expected one of leaky_relu.*'swish'"),
    ],
)
def test_encoder_refuses_by_name(arguments, message):
    with pytest.raises(ValueError, match=message):
        Encoder(**arguments)


def test_refiner_keeps_the_shape_and_uses_the_label():
    refiner = Refiner((3, 16, 16), filters=4, kernel_size=5, classes=3).eval()
    images = torch.rand(2, 3, 16, 16)
    first, second = (refiner(images, nn.functional.one_hot(torch.tensor([c, c]), 3).float()) for c in (0, 1))
    assert first.shape == images.shape
    assert first.min() >= 0
    assert first.max() <= 1
    assert not torch.allclose(first, second)
    with pytest.raises(ValueError, match="needs the labels"):
        refiner(images)
    with pytest.raises(ValueError, match="kernel_size: expected an odd number, got 4"):
        Refiner((1, 8, 8), kernel_size=4)


def test_discriminator_gives_one_value_an_image():
    assert Discriminator((1, 28, 28), (4, 8), 16)(torch.rand(5, 1, 28, 28)).shape == (5,)


def test_orthogonal_initialisation():
    network = nn.Sequential(nn.Conv2d(2, 4, 3), nn.Linear(20, 6)).apply(orthogonal_)
    for layer in network:
        rows = layer.weight.flatten(1)
        torch.testing.assert_close(rows @ rows.T, torch.eye(len(rows)), atol=1e-5, rtol=0)
        assert layer.bias.abs().max() > 0


@pytest.mark.parametrize("activation", ["leaky_relu", "silu"])
def test_the_discriminator_scores_as_its_layers_one_after_the_other(activation):
    torch.manual_seed(0)
    discriminator = Discriminator((1, 28, 28), (4, 8), 24, activation).double()
    images = torch.rand(5, 1, 28, 28, dtype=torch.double)
    found = []
    for scores in (discriminator(images), discriminator[1](discriminator[0](images)).flatten()):
        assert scores.shape == (5,)
        found.append([scores, *torch.autograd.grad(scores.square().sum(), list(discriminator.parameters()))])
    for composed, layered in zip(*found, strict=True):
        torch.testing.assert_close(composed, layered)


@pytest.mark.parametrize("place", ["0", "0.5", "1", "2"])
def test_hooks_of_the_discriminators_layers_are_called(place):
    discriminator, calls = Discriminator((1, 8, 8), (4,), 6), []
    images = torch.rand(2, 1, 8, 8)
    scores = discriminator(images)
    module = discriminator.get_submodule(place)
    module.register_forward_hook(lambda module, inputs, output: calls.append(module))
    torch.testing.assert_close(discriminator(images), scores)
    assert calls == [module]


class LowRank(nn.Linear):
    """A linear layer with a low-rank addition, as adapters have it."""

    def __init__(self, layer):
        super().__init__(layer.in_features, layer.out_features, dtype=layer.weight.dtype)
        self.load_state_dict(layer.state_dict())
        self.into = nn.Parameter(torch.randn(2, layer.in_features, dtype=layer.weight.dtype))
        self.out = nn.Parameter(torch.randn(layer.out_features, 2, dtype=layer.weight.dtype))

    def forward(self, x):
        return super().forward(x) + x @ self.into.T @ self.out.T


def adapted_head(network):
    network.mean = LowRank(network.mean)


def adapted_encoder(network):
    network.encoder[len(network.encoder) - 1] = LowRank(network.encoder.last)


@pytest.mark.parametrize("adapt", [adapted_head, adapted_encoder])
def test_layers_with_a_computation_of_their_own_are_not_fused(adapt):
    model = VFA((1, 8, 8), latent=4, channels=(8,), width=32).double().eval()
    adapt(model)
    images = torch.rand(5, 1, 8, 8, dtype=torch.double)
    with torch.no_grad():
        wanted = model.mean(model.encoder(images))
    for count in (1, 5):
        torch.testing.assert_close(model.snapshot(count).posterior(images).mean, wanted)


@pytest.mark.parametrize("place", ["0", "1"])
def test_the_discriminators_layers_with_a_computation_of_their_own_are_not_fused(place):
    discriminator, images = Discriminator((1, 8, 8), (4,), 6), torch.rand(3, 1, 8, 8)
    if place == "1":
        discriminator[1] = LowRank(discriminator[1])
    else:
        discriminator[0][len(discriminator[0]) - 1] = LowRank(discriminator[0].last)
    torch.testing.assert_close(discriminator(images), discriminator[1](discriminator[0](images)).flatten())
