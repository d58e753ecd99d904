"""Measures against SciPy's matrix square root, numbers by hand, and real digits."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
import torch

from feature_alignment.data import load
from feature_alignment.metrics import (
    Classifier,
    class_agreement,
    classifier_fid,
    classifier_for,
    evaluate,
    reconstruction_error,
)
from feature_alignment.models import VFAGAN


@pytest.fixture(scope="module")
def splits():
    return load("mnist-mini", "train"), load("mnist-mini", "test")


@pytest.fixture(scope="module")
def classifier(splits):
    return classifier_for(splits[0], steps=500)


def test_reconstruction_error_by_hand():
    assert reconstruction_error(torch.zeros(3, 1, 2, 2), torch.full((3, 1, 2, 2), 0.5)) == 1.0
    with pytest.raises(ValueError, match=r"expected shape \(3, 1, 2, 2\), got \(1, 1, 2, 2\)"):
        reconstruction_error(torch.zeros(3, 1, 2, 2), torch.zeros(1, 1, 2, 2))


def test_error_of_the_mean_image_is_what_the_digits_say(splits):
    train, test = splits
    error = reconstruction_error(test.images(), train.images().mean(0).expand(500, 1, 28, 28))
    pixels = np.asarray(test.pixels, np.float64) / 255
    expected = ((pixels - np.asarray(train.pixels, np.float64).mean(0) / 255) ** 2).sum((1, 2, 3)).mean()
    assert error == pytest.approx(expected, rel=1e-6)


def test_classifier_reads_held_out_digits_and_is_cached(splits, classifier):
    train, test = splits
    assert class_agreement(classifier, test.images(), test.labels) > 0.9
    state = torch.get_rng_state()
    again = classifier_for(train, steps=500)
    assert torch.equal(state, torch.get_rng_state())
    for one, two in zip(classifier.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, two)


def test_classifier_without_labels_learns_rotations(splits):
    from dataclasses import replace

    train, test = splits
    classifier = classifier_for(replace(train, labels=None, classes=(), name="unlabelled"), steps=300)
    turned = torch.cat([test.images().rot90(turns, (2, 3)) for turns in range(4)])
    assert class_agreement(classifier, turned, torch.arange(4).repeat_interleave(500)) > 0.8


def test_classifier_fid_is_equation_8(splits, classifier):
    real, other = splits[1].images()[:300], splits[0].images()[:400] * 0.8
    with torch.no_grad():
        a, b = (classifier.features(images).double().numpy() for images in (real, other))
    covariances = [np.cov(each, rowvar=False) for each in (a, b)]
    # Features that are always zero make the product singular, which SciPy's root does not like.
    root = scipy.linalg.sqrtm(covariances[0] @ covariances[1] + 1e-10 * np.eye(64)).real
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(covariances[0] + covariances[1] - 2 * root)
    assert classifier_fid(classifier, real, other) == pytest.approx(expected, rel=1e-3)
    assert classifier_fid(classifier, real, real) == pytest.approx(0, abs=1e-2)


def test_class_agreement_by_hand():
    classifier = Classifier(1, 8, 3).eval()
    images = torch.rand(4, 1, 8, 8)
    named = classifier.classify(images)
    wrong = (named + torch.tensor([0, 1, 1, 0])) % 3
    assert class_agreement(classifier, images, wrong) == 0.5


def test_evaluate_reports_every_stage_beside_the_reference(splits, monkeypatch):
    monkeypatch.setattr("feature_alignment.metrics.CHUNK", 64)  # several chunks
    torch.manual_seed(0)
    model = VFAGAN(
        (1, 28, 28), 4, 10, channels=(4, 8), width=16, refiner_filters=4, discriminator_width=8, step_size=99.0
    )
    model.eval()
    found = evaluate(model, *splits, seed=3, limit=150)
    assert (found["images"], found["samples"], found["seed"]) == (150, 150, 3)
    for name in ("reconstruction_error", "classifier_fid", "class_agreement"):
        assert set(found[name]) == {"feature", "refined", "reference"}
    spread = (np.arange(150) * 499 / 149).round().astype(int).tolist()
    images, labels = splits[1].images()[spread], splits[1].labels[spread]
    assert torch.bincount(labels).min() >= 14  # every class has its share
    features = model.reconstruct(images, labels)
    assert found["reconstruction_error"]["feature"] == pytest.approx(reconstruction_error(images, features), rel=1e-5)
    refined = model.refine(features, labels)
    assert found["reconstruction_error"]["refined"] == pytest.approx(reconstruction_error(images, refined), rel=1e-5)
    generator = torch.Generator().manual_seed(3)
    chunks = [model.sample(len(each), each, generator=generator) for each in labels.split(64)]
    expected = classifier_fid(classifier_for(splits[0]), images, torch.cat(chunks))
    assert found["classifier_fid"]["feature"] == pytest.approx(expected, rel=1e-3)
    assert found["classifier_fid"]["reference"] < found["classifier_fid"]["feature"]
    assert found == evaluate(model, *splits, seed=3, limit=150)
