"""The registry of measures."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from naive_metrics import small_model

from feature_alignment.metrics import MEASURES, Measure, evaluate, stages_of
from feature_alignment.models import VFA


def test_stages_come_from_the_measures_and_the_reference_last():
    assert stages_of({"psnr": {"reference": 1, "decoded": 2}, "images": 3, "kid": {"refined": 4}}) == [
        "decoded",
        "refined",
        "reference",
    ]
    assert {measure.better for measure in MEASURES.values()} == {"lower", "higher"}


def test_a_measure_is_one_entry(splits, monkeypatch):
    brightness = Measure(
        "brightness", "lower", "mean", "real", lambda made: made.of_samples(lambda _, x: float(x.mean()))
    )
    monkeypatch.setitem(MEASURES, "brightness", brightness)
    model = small_model(VFA)
    found = evaluate(model, *splits, seed=1, limit=12)
    labels = splits[1].labels[(np.arange(12) * 499 / 11).round()]
    samples = model.sample(12, labels, generator=torch.Generator().manual_seed(1))
    assert found["brightness"]["feature"] == pytest.approx(float(samples.mean()), rel=1e-5)
    assert stages_of({"brightness": found["brightness"]}) == ["feature", "reference"]


def test_a_classifier_of_rotations_names_no_classes(splits):
    train, test = splits
    found = evaluate(small_model(VFA), replace(train, labels=None, classes=()), test, limit=12)
    assert "class_agreement" not in found
    assert "have no labels from which a classifier could learn" in found["notes"]["class_agreement"]
