"""With the switch off, every result is the same."""

from __future__ import annotations

import copy
import runpy

import pytest
import torch
from reference import algorithm_1
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from feature_alignment import align
from feature_alignment.core import speed
from feature_alignment.core.speed.convolution import NarrowConv2d
from feature_alignment.core.speed.fusion import composed
from feature_alignment.models import FA


class Operations(TorchDispatchMode):
    """Batch sizes of convolutions, and whether anything was folded."""

    def __init__(self):
        super().__init__()
        self.convolutions, self.folds = [], 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function is torch.ops.aten.convolution.default:
            self.convolutions.append(len(args[0]))
        self.folds += function is torch.ops.aten.col2im.default
        return function(*args, **(kwargs or {}))


def test_it_is_on_unless_turned_off_and_turns_back():
    assert speed.enabled()
    with speed.switched(False):
        assert not speed.enabled()
        with speed.switched(True):
            assert speed.enabled()
        assert not speed.enabled()
    assert speed.enabled()
    with pytest.raises(KeyError), speed.switched(False):
        raise KeyError
    assert speed.enabled()


@pytest.mark.parametrize(("value", "on"), [("0", False), ("1", True)])
def test_the_environment_turns_it_off(monkeypatch, value, on):
    monkeypatch.setenv("FALIGN_SPEED", value)
    assert runpy.run_path(speed.__file__)["enabled"]() is on


@pytest.mark.parametrize("recompute", [False, True])
def test_align_pulls_back_residuals_instead_of_units_and_finds_the_same(recompute):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(2, 3, 3, 2, 1), nn.SiLU(), nn.Flatten(), nn.Linear(27, 4)).double()
    x, start = torch.randn(9, 2, 6, 6).double(), torch.randn(1, 2, 6, 6).double()
    found, batches = [], []
    for on in (True, False):
        with speed.switched(on), Operations() as operations:
            feature = align(network, network(x), start, steps=2, recompute=recompute, check=False)
            found.append([feature, *torch.autograd.grad((x - feature).square().sum(), list(network.parameters()))])
        batches.append(4 in operations.convolutions)  # four numbers out, nine samples
    assert batches == [True, False]
    wanted = algorithm_1(network, network(x), start, steps=2)
    found.append([wanted, *torch.autograd.grad((x - wanted).square().sum(), list(network.parameters()))])
    for on, off, exact in zip(*found, strict=True):
        torch.testing.assert_close(on, exact)
        torch.testing.assert_close(off, exact)


def test_a_narrow_convolution_is_an_ordinary_one():
    torch.manual_seed(0)
    layer, images = NarrowConv2d(14, 1, 3, padding=1).double(), torch.randn(2, 14, 5, 5).double()
    with Operations() as operations:
        folded = layer(images)
    assert (operations.folds, len(operations.convolutions)) == (1, 0)
    with speed.switched(False), Operations() as operations:
        plain = layer(images)
    assert (operations.folds, len(operations.convolutions)) == (0, 1)
    torch.testing.assert_close(folded, plain)


def test_fused_layers_are_the_layers_one_after_the_other():
    torch.manual_seed(0)
    first, heads = nn.Linear(5, 9).double(), [nn.Linear(9, 3).double(), nn.Linear(9, 2).double()]
    x = torch.randn(4, 5).double()
    torch.testing.assert_close(composed(first, heads)(x), torch.cat([head(first(x)) for head in heads], 1))


@pytest.mark.parametrize("further_steps", [0, 3])
def test_an_update_with_a_layered_start_is_the_same(further_steps):
    torch.manual_seed(0)
    options = {"start": "layers", "squash": "every", "steps": 2, "step_size": 4.0, "learn_step_size": True}
    model = FA(
        (1, 8, 8), 5, channels=(14, 6), width=9, activation="silu", activate_width=True, max_step=1.0,
        further_steps=further_steps, **options,
    ).double()  # fmt: skip
    images = torch.rand(9, 1, 8, 8, dtype=torch.double)
    found = []
    for on in (True, False):
        with speed.switched(on):
            network = model.snapshot(len(images))
            loss = model.reconstruction(network, images, model.target(network.outputs(images)), 2)[0]
            found.append([loss, *torch.autograd.grad(loss, [p for p in model.parameters() if p.requires_grad])])
    for got, wanted in zip(*found, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-10, atol=1e-12)


def test_what_decoding_keeps_of_a_layered_start_follows_the_weights():
    torch.manual_seed(0)
    model = FA((1, 8, 8), 5, channels=(4, 6), width=9, start="layers", squash="every", activation="silu")
    latents = torch.randn(3, 5)
    for _ in range(2):
        kept, twin = model.decode(latents), copy.deepcopy(model)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(1.2)
        torch.testing.assert_close(twin.decode(latents), kept)
        with speed.switched(False):
            wanted = model.decode(latents)
        torch.testing.assert_close(model.decode(latents), wanted)
        assert not torch.allclose(wanted, kept)
