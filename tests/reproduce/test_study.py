"""Trainings of a study, and numbers over seeds."""

from __future__ import annotations

import numpy as np
import PIL.Image
import pytest

from feature_alignment.reproduce.study import Study, cell
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
