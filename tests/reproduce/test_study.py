"""Trainings of a study, and numbers over seeds."""

from __future__ import annotations

import numpy as np
import PIL.Image
import pytest

from feature_alignment.data import DataError
from feature_alignment.reproduce.page import _markdown
from feature_alignment.reproduce.study import Study, cell
from feature_alignment.reproduce.targets.one_latent import FIGURE_5B
from feature_alignment.training import TrainingError


def test_mean_and_sample_standard_deviation():
    assert cell([1.0, 2.0, 4.0]) == {"values": [1, 2, 4], "mean": pytest.approx(7 / 3), "std": pytest.approx(1.527525)}
    assert cell([5.0])["std"] is None


def test_results_have_the_name_of_a_folder_and_are_of_its_images_alone(tmp_path, monkeypatch):
    folder = tmp_path / "photos"
    folder.mkdir()
    for at in range(40):
        PIL.Image.fromarray(np.full((28, 28), at, np.uint8)).save(folder / f"{at:02}.png")
    monkeypatch.chdir(folder)
    study = Study(".", "smoke", [0], tmp_path / "out")
    assert study.directory == tmp_path / "out" / "photos"
    Study("../photos", "smoke", [0], tmp_path / "out")
    PIL.Image.fromarray(np.full((28, 28), 99, np.uint8)).save(folder / "x.png")
    with pytest.raises(TrainingError, match=r"runs/photos: has the results of .*, not of .*; choose another --out"):
        Study(".", "smoke", [0], tmp_path / "out")


def folder_of_images(folder):
    folder.mkdir()
    for at in range(40):
        PIL.Image.fromarray(np.full((28, 28), at, np.uint8)).save(folder / f"{at:02}.png")
    return str(folder)


def test_classes_are_asked_for_before_anything_is_trained(tmp_path, monkeypatch):
    study = Study(folder_of_images(tmp_path / "my photos"), "smoke", [0], tmp_path / "out")
    monkeypatch.setattr(Study, "run", lambda *_: pytest.fail("trained"))
    with pytest.raises(DataError, match="fig5b: needs a data set with classes"):
        FIGURE_5B.make(study)


def test_pictures_of_a_set_whose_name_has_a_space_are_linked():
    result = {
        "target": "fig6", "data": "my photos", "title": "", "claim": "", "pictures": {"fig6.png": "caption"},
        "scale": "smoke", "seeds": [0], "commit": "", "table": {"columns": [], "rows": {}}, "settings": {},
        "notes": [], "devices": [], "train_images": 9, "image_shape": [1, 28, 28],
    }  # fmt: skip
    (line,) = (line for line in _markdown(result, "my photos/") if line.startswith("!"))
    assert line == "![caption](my%20photos/fig6.png)"


def test_runs_without_fid_are_measured_again_when_it_is_asked_for(tmp_path, monkeypatch):
    asked = []

    def evaluate(model, train, test, *, seed, limit, inception):
        asked.append(inception)
        found = {"data": "mnist-mini", "images": 4, "samples": 4, "seed": seed, "classifier_fid": {"decoded": 2.0}}
        return found | ({"fid": {"decoded": 1.0}} if inception else {})

    monkeypatch.setattr("feature_alignment.report.run_report.evaluate", evaluate)
    for inception, measured in ((None, 1), (None, 1), ("inception", 2), ("inception", 2), (None, 2)):
        study = Study("mnist-mini", "smoke", [0], tmp_path, inception)
        results = study.run("vae", 0).results()
        assert len(asked) == measured
        assert ("fid" in results) == (measured == 2)
        assert "seconds" in results
