"""``diagnose``: which layers, in what order, and what is refused."""

from __future__ import annotations

import json
import math

import pytest
import torch
from once import Once
from torch import nn

from feature_alignment import diagnose
from feature_alignment.core.diagnosis.pre_images import pre_images


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture
def network():
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 6), nn.ReLU(), nn.Linear(6, 3))


IMAGES = torch.rand(2, 1, 4, 4)
QUICK = {"max_evaluations": 20, "probes": 2}


def test_layers_come_in_the_order_of_depth_one_after_the_other(network):
    seen = []
    found = diagnose(network, IMAGES, after_each=lambda part: seen.append([layer.name for layer in part]), **QUICK)
    assert [layer.name for layer in found] == ["2", "3"]
    assert seen == [["2"], ["2", "3"]]
    assert (len(found), found["3"], found.name) == (2, found[1], "Sequential")
    flat = diagnose(network, IMAGES, ["0"], **QUICK)["0"]
    assert flat.information == pytest.approx(1, abs=0.01)
    assert flat.clipped is None
    assert max(found["2"].information, found["3"].information) < 0.9
    assert found["2"].clipped == found["3"].clipped == float((network[:2](IMAGES) <= 0).double().mean())


def test_evaluations_are_those_of_its_parts(network):
    """Of two searches for a pre-image and a step; K + 1 of the Jacobian; and one of the layer's shape."""
    layer = diagnose(network, IMAGES, ["3"], **QUICK)["3"]
    start = torch.full((1, 1, 4, 4), 0.5)
    searched = pre_images(network, IMAGES, start, "natural", 1e-2, 20).evaluations.float().mean()
    assert layer.evaluations == float(searched) + (3 + 1) + 1


def test_layers_by_name_all_of_them_and_a_function(network):
    assert [layer.name for layer in diagnose(network, IMAGES, ["3", "1", "3"], **QUICK)] == ["3", "1"]
    assert [layer.name for layer in diagnose(network, IMAGES, "2", **QUICK)] == ["2"]
    assert [layer.name for layer in diagnose(network, IMAGES, "all", **QUICK)] == ["0", "1", "2", "3"]
    (layer,) = diagnose(lambda x: x.flatten(1)[:, :3], IMAGES, **QUICK)
    assert (layer.name, layer.size, layer.shape) == ("output", 3, (3,))


def test_the_result_does_not_depend_on_the_random_numbers_drawn_before(network):
    first = diagnose(network, IMAGES, ["3"], **QUICK)["3"]
    torch.rand(3)
    second = diagnose(network, IMAGES, ["3"], **QUICK)["3"]
    assert {**first.numbers(), "seconds": 0} == {**second.numbers(), "seconds": 0}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"images": IMAGES * 255}, r"images: expected values in \[0, 1\], got .* to 2\d\d; the normalisation"),
        ({"images": IMAGES.mul(255).byte()}, "images: expected a floating-point tensor, got torch.uint8"),
        ({"images": IMAGES[:0]}, r"images: expected shape \(N, ...\), N at least 1, got \(0, 1, 4, 4\)"),
        ({"images": IMAGES / 0}, "images: "),
        ({"images": torch.rand(2, 1, 5, 5)}, "mat1 and mat2"),
        ({"layers": ["3", "33"]}, "no module '33'; nearest: 3"),
        ({"layers": []}, "layers: expected at least one name"),
        ({"variables": "naturl"}, "did you mean 'natural'"),
        ({"network": 3}, "network: expected a module or a function, got int"),
        ({"network": nn.BatchNorm2d(1)}, "network: .*eval"),
        ({"tol": -1.0}, "tol: expected a finite number greater than 0"),
        ({"probes": 1}, "probes: expected a whole number of at least 2, got 1"),
        ({"network": lambda x: x.argmax(1)}, "layer 'output': the network's output: expected a floating-point tensor"),
    ],
)
def test_what_cannot_be_measured_is_refused_by_name(network, arguments, words):
    given = {"network": network, "images": IMAGES, **QUICK, **arguments}
    with pytest.raises((TypeError, ValueError, RuntimeError), match=words):
        diagnose(given.pop("network"), given.pop("images"), given.pop("layers", None), **given)


def test_an_unknown_option_is_named(network):
    with pytest.raises(TypeError, match="evaluations"):
        diagnose(network, IMAGES, evaluations=3)


def test_copies_of_one_image_are_compared_with_grey_as_one_is():
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 4))
    one = torch.rand(1, 1, 8, 8)
    alone = diagnose(network, one, max_evaluations=30)[0]
    for count in (2, 3, 5):
        found = diagnose(network, one.repeat(count, 1, 1, 1), max_evaluations=30)[0]
        assert found.information == pytest.approx(alone.information, abs=1e-3)
    grey = diagnose(network, torch.full((1, 1, 8, 8), 0.5), max_evaluations=30)[0]
    assert (grey.information, grey.information_by_image) == (0.0, (0.0,))


def test_the_network_itself_is_found_by_either_of_its_names():
    found = diagnose(nn.Sequential(nn.Flatten(), nn.Linear(16, 2)), IMAGES, [""], **QUICK)
    assert found[""] is found["output"] is found[0]


def test_weights_made_in_inference_mode_are_refused_in_words():
    with torch.inference_mode():
        network = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
    with pytest.raises(ValueError, match=r"'1\.weight' was made under torch\.inference_mode"):
        diagnose(network, IMAGES, **QUICK)


@pytest.mark.parametrize("change", [{"batch_size": 0}, {"batch_size": 2.5}, {"probes": 2.5}, {"seed": -1}])
def test_options_out_of_range_are_refused_before_anything_is_measured(change):
    with pytest.raises(ValueError, match=f"{next(iter(change))}: expected a whole number"):
        diagnose(nn.Sequential(nn.Flatten(), nn.Linear(16, 2)), IMAGES, **{**QUICK, **change})


class Bent(nn.Module):
    def forward(self, x):
        return Once.apply(x)


@pytest.mark.parametrize("outputs", [12, 600])
def test_a_network_that_is_differentiable_once_is_measured_as_far_as_it_can_be(outputs, tmp_path):
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, outputs), Bent())
    smooth = nn.Sequential(*network[:2], nn.Tanh())
    found, usual = (diagnose(each, IMAGES, "2", max_evaluations=60) for each in (network, smooth))
    assert found[0].information == pytest.approx(usual[0].information, abs=1e-3)
    assert math.isnan(found[0].information_of_one_step)
    if outputs == 12:
        assert found[0].effective_rank == pytest.approx(usual[0].effective_rank, rel=1e-4)
    else:
        assert math.isnan(found[0].effective_rank)
    found.save(tmp_path)
    (entry,) = json.loads((tmp_path / "layers.json").read_text())
    assert entry["information_of_one_step"] is None


def test_a_function_has_no_layers_to_name():
    network = nn.Linear(6, 3)
    with pytest.raises(ValueError, match="names: a function has no modules, and none is called '1'; expected ''"):
        diagnose(lambda images: network(images), torch.rand(2, 6), layers=["1"], variables="pixels")
