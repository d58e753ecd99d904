"""The page's events, called as Gradio does; the port; what is refused."""

from __future__ import annotations

import base64
import io
import socket

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from feature_alignment.cli.main import main
from feature_alignment.explorer import build, listen
from feature_alignment.explorer.markup import data_url
from feature_alignment.explorer.pad import SIDE, paper_of
from feature_alignment.networks import LoadedNetwork, NetworkError

NOTES = "data:text/plain;name=notes.txt;base64,aGVsbG8="


def events(page):
    """Return the functions of the page's events by their names."""
    return {each.api_name: each.fn for each in page.fns.values() if each.api_name}


def test_every_event_of_a_model_answers(conditional):
    found = events(build(conditional, "<mine>"))
    url = data_url(torch.rand(1, 8, 8))
    view, status, _, point, original, label, *sliders = found["read"](url, 0, 1.0)
    assert label in (0, 1, 2)
    assert "inferred" in status
    assert [kind in view for kind in ("image", "feature", "refined", "latent")] == [True] * 4
    assert found["move_0"](point, original, label, 1.0, *sliders) == view
    moved = found["move_0"](point, original, label, 1.0, sliders[0] + 1, *sliders[1:])
    assert original in moved
    assert moved != view
    assert found["class"](point, original, (label + 1) % 3, 1.0, *sliders) != view
    assert found["sampler"]("gaussian", 2, 1.0, 4) != found["samples"]("gaussian", -1, 1.0, 4)
    assert "&lt;dog&gt;" in found["samples"]("normal", -1, 1.0, 4)
    ends, between, *_ = found["end_1"](url, [(point, 0), (point, 1)], 0.0)
    assert ends[1] == (point, 1)
    assert between == found["walk"](ends, 0.0)
    pictures, said = found["layer"](url, "mean · Linear · 5", 30)
    assert "pre-image" in pictures
    assert "mean: residual" in said


def test_a_dropped_file_of_more_than_8_bits_is_read_by_the_white_of_the_model(conditional):
    conditional.white = {"integers": 4095.0}
    found = events(build(conditional))
    Image.fromarray(np.full((8, 8), 200, np.uint16)).save(file := io.BytesIO(), "png")  # alone: 255
    url = f"data:image/png;name=deep.png;base64,{base64.b64encode(file.getvalue()).decode()}"
    seen = data_url(torch.full((1, 8, 8), 12 / 255))
    view, _, canvas, point, *_ = found["read"](url, 0, 1.0)
    assert seen in view
    assert point == found["read"](seen, 0, 1.0)[3]
    assert canvas == data_url(torch.full((3, SIDE, SIDE), 12 / 255))
    assert seen in found["picture"](url)[0]
    ends, *_, canvas = found["end_1"](url, [(point, 0), (point, 1)], 0.0)
    assert ends[0][0] == point
    assert canvas == data_url(torch.full((3, SIDE, SIDE), 12 / 255))


def test_what_is_no_image_is_one_line_everywhere(conditional):
    found = events(build(conditional))
    said = [found["read"](NOTES, 0, 1.0)[1], found["end_2"](NOTES, [], 0.5)[3], found["picture"](NOTES)[1],
            found["layer"](NOTES, "mean · Linear · 5", 30)[1]]  # fmt: skip
    for each in said:
        assert "notes.txt: not a readable image (format not recognised)" in each
        assert "fa-wrong" in each


def test_models_without_classes_and_networks_have_a_page(plain):
    found = events(build(plain))
    view, *_ = found["read"](data_url(torch.rand(3, 8, 8)), 0, 1.0)
    assert "refined" not in view
    assert {*events(build(LoadedNetwork("mine", nn.Flatten(), (1, 8, 8))))} >= {"layer", "picture"}
    with pytest.raises(NetworkError, match="mine: takes 4 channels; pictures have 1 or 3"):
        build(LoadedNetwork("mine", nn.Flatten(), (4, 8, 8)), "mine")


def test_the_canvas_has_the_colour_of_the_images_borders(plain, monkeypatch):
    for border, paper in ((0.1, 0), (0.5, 0.5), (0.9, 1)):
        images = torch.full((32, 3, 8, 8), border)
        images[:, :, 1:-1, 1:-1] = 1 - border
        monkeypatch.setattr(plain, "sample", lambda *_, images=images, **__: images)
        assert paper_of(plain) == pytest.approx(paper)


def test_a_port_in_use_is_one_line_at_once(capsys):
    with listen(0) as sock:
        port = sock.getsockname()[1]
        assert main(["explore", "nowhere", f"--port={port}"]) == 2
    assert capsys.readouterr().err == f"falign: error: port {port}: is in use; 0 takes a free one\n"
    assert main(["explore", "nowhere", "--port=70000"]) == 2
    assert capsys.readouterr().err == "falign: error: --port: expected 0 to 65535, got 70000\n"


def test_only_this_machine_is_listened_to():
    with listen(0) as sock:
        address, port = sock.getsockname()
        assert address == "127.0.0.1"
        with pytest.raises(OSError), socket.create_connection(("127.0.0.2", port), 1):  # noqa: PT011
            pass


def test_what_cannot_be_explored_is_one_line(tmp_path, capsys):
    assert main(["explore", str(tmp_path), "--port=0"]) == 2
    assert "not a saved model" in capsys.readouterr().err
    assert main(["explore", str(tmp_path), "--port=0", "--size=8"]) == 2
    assert capsys.readouterr().err == "falign: error: --size: not for a run, which has its own\n"
    assert main(["explore", "nowhere", "--port=0"]) == 2
    assert "nowhere: no such network" in capsys.readouterr().err
