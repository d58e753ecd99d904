"""The files of a reversibility report: what is in them, for one network and two, for images and other inputs."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace

import pytest
import torch
from PIL import Image
from torch import nn

from feature_alignment import Diagnosis, diagnose
from feature_alignment.report import diagnosis_pictures
from feature_alignment.report.diagnosis_pictures import broken, information_chart


@pytest.fixture(scope="module")
def found():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 20), nn.Tanh(), nn.Linear(20, 3))
    return diagnose(network, torch.rand(4, 3, 8, 8), ["0", "2", "3"], name="a <network>", max_evaluations=10)


def test_a_report_has_an_entry_and_a_picture_a_layer_and_image(found, tmp_path):
    found.save(tmp_path / "new" / "report")
    out = tmp_path / "new" / "report"
    assert sorted(path.name for path in out.iterdir()) == [
        "information.png",
        "layers.json",
        "report.html",
        "strips.png",
    ]
    entries = json.loads((out / "layers.json").read_text())
    assert [entry["name"] for entry in entries] == ["0", "2", "3"]
    assert [entry["size"] for entry in entries] == [192, 20, 3]
    assert entries[1]["information"] == found["2"].information
    assert len(entries[1]["information_by_image"]) == 4
    page = (out / "report.html").read_text()
    assert "<title>a &lt;network&gt;</title>" in page
    assert len(re.findall(r"<img [^>]*src=\"data:image/", page)) == 4 * (1 + 3) + 1
    assert not re.findall(r"(?:src|href)=\"(?!data:)", page)
    assert Image.open(out / "strips.png").width > Image.open(out / "strips.png").height / 3


def test_two_networks_stand_side_by_side(found, tmp_path):
    other = replace(found, name="another", layers=found.layers[:2])
    found.save(tmp_path, other)
    assert [entry["name"] for entry in json.loads((tmp_path / "against.json").read_text())] == ["0", "2"]
    assert len(json.loads((tmp_path / "layers.json").read_text())) == 3
    page = (tmp_path / "report.html").read_text()
    assert len(re.findall(r"<img [^>]*src=\"data:image/", page)) == 4 * (1 + 3 + 2) + 1
    assert page.count("another") > 4
    with pytest.raises(ValueError, match="against: was measured with other images"):
        found.save(tmp_path, replace(other, images=found.images + 0.1))


def test_numbers_that_are_not_finite_and_inputs_that_are_no_images(tmp_path):
    network = nn.Linear(6, 4)
    found = diagnose(network, torch.randn(3, 6), variables="pixels", max_evaluations=10)
    bad = replace(found.layers[0], residual=math.nan, information=-5.0, information_by_image=(math.inf, 0.0, 1.0))
    Diagnosis("table", found.images, (bad,), found.options).save(tmp_path)
    (entry,) = json.loads((tmp_path / "layers.json").read_text(), parse_constant=lambda text: pytest.fail(text))
    assert entry["residual"] is None
    assert entry["information_by_image"] == [None, 0, 1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["information.png", "layers.json", "report.html"]


def test_the_chart_has_information_and_one_step_of_each_layer(found, monkeypatch):
    monkeypatch.setattr(diagnosis_pictures, "finish", lambda figure, path: figure)
    axes, *_ = information_chart([found]).axes
    drawn = [list(line.get_ydata()) for line in axes.lines[1:]]
    assert drawn == [[layer.information for layer in found], [layer.information_of_one_step for layer in found]]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["0", "2", "3"]
    axes, *_ = information_chart([found, replace(found, name="b")]).axes
    assert not axes.child_axes
    assert [text.get_text() for text in axes.figure.legends[0].get_texts()] == [
        "a <network>, pre-image", "a <network>, one Gauss-Newton step", "b, pre-image", "b, one Gauss-Newton step"
    ]  # fmt: skip


def test_layers_of_other_names_are_named_above(found, monkeypatch):
    monkeypatch.setattr(diagnosis_pictures, "finish", lambda figure, path: figure)
    other = replace(found, layers=tuple(replace(layer, name=f"x{layer.name}") for layer in found.layers[:2]))
    axes, *_ = information_chart([found, other]).axes
    assert [text.get_text() for text in axes.child_axes[0].get_xticklabels()] == ["x0", "x2"]


def test_long_names_are_broken():
    assert broken("conv1", 10) == "conv1"
    assert broken("encoder.layers.encoder_layer_10", 16).splitlines() == ["encoder.layers.", "encoder_layer_10"]
    assert broken("aaaaaaaaaaaa", 5).splitlines() == ["aaaaa", "aaaaa", "aa"]


def test_files_of_an_earlier_report_do_not_stay(found, tmp_path):
    found.save(tmp_path, replace(found, name="another"))
    assert (tmp_path / "against.json").exists()
    found.save(tmp_path)
    assert not (tmp_path / "against.json").exists()
    replace(found, images=found.images.flatten(1)).save(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["information.png", "layers.json", "report.html"]
