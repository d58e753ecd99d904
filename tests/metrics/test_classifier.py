"""The classifier on real digits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import scipy.linalg
import scipy.ndimage
import torch

from feature_alignment.metrics import Classifier, class_agreement, classifier_fid, classifier_for
from feature_alignment.metrics import classifier as room
from feature_alignment.metrics.cache import cached_tensors


def test_classifier_reads_held_out_digits_and_is_cached(splits, classifier):
    train, test = splits
    assert class_agreement(classifier, test.images(), test.labels) > 0.9
    state = torch.get_rng_state()
    again = classifier_for(train, steps=500)
    assert torch.equal(state, torch.get_rng_state())
    for one, two in zip(classifier.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, two)


def test_a_cached_classifier_is_that_of_these_labels_and_of_every_pixel(splits, monkeypatch):
    train, keys = splits[0], []

    def cached(name, key, compute):
        keys.append(key)
        return Classifier(1, 28, 10).state_dict()

    monkeypatch.setattr(room, "cached_tensors", cached)
    labels, pixels = train.labels.clone(), train.pixels.clone()
    labels[1] = (labels[1] + 1) % 10
    pixels[1, 0, 0, 0] += 1
    for changed in ({}, {}, {"labels": labels}, {"pixels": pixels}):
        classifier_for(replace(train, **changed))
    assert len(set(keys)) == 3
    assert keys[0] == keys[1]


def test_classifier_without_labels_learns_rotations(splits):
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


@pytest.mark.parametrize("name", ["set\udcfe", "猫" * 100, "a" * 300, "a\nb"])
def test_what_is_cached_for_a_data_set_of_any_name_is_found_again(name, tmp_path, monkeypatch):
    monkeypatch.setenv("FALIGN_CACHE", str(tmp_path / "\udcff"))
    computed = []

    def compute():
        computed.append(1)
        return {"x": torch.arange(3)}

    for _ in range(2):
        assert cached_tensors(name, "key", compute)["x"].tolist() == [0, 1, 2]
    assert len(computed) == 1
    (path,) = (tmp_path / "\udcff").iterdir()
    path.write_bytes(path.read_bytes()[:20])
    assert cached_tensors(name, "key", compute)["x"].tolist() == [0, 1, 2]


def test_a_cache_that_cannot_be_written_costs_nothing_but_the_next_time(tmp_path, monkeypatch):
    monkeypatch.setenv("FALIGN_CACHE", str(tmp_path / "file"))
    (tmp_path / "file").touch()  # where a directory would have to be
    with pytest.warns(UserWarning, match="cannot be kept for the next time"):
        assert cached_tensors("a", "key", lambda: {"x": torch.arange(3)})["x"].tolist() == [0, 1, 2]


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_a_classifier_is_trained_where_gradients_are_off(splits, tmp_path, monkeypatch, context):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    few = replace(splits[0], pixels=splits[0].pixels[:200], labels=splits[0].labels[:200], name=context.__name__)
    with context():
        found = classifier_for(few, steps=3)
        assert found.classify(few.images()[:5]).shape == (5,)
    again = classifier_for(replace(few, name=f"{few.name}-again"), steps=3)
    torch.testing.assert_close(found.head.weight.detach().clone(), again.head.weight.detach())


def test_labels_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"labels: expected shape \(4,\), got \(4, 1\)"):
        class_agreement(Classifier(1, 8, 3).eval(), torch.rand(4, 1, 8, 8), torch.zeros(4, 1))
