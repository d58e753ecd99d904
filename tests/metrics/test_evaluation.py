"""All measures of a model, each against its own function on what the model made."""

from __future__ import annotations

from dataclasses import replace
from unittest import mock

import numpy as np
import pytest
import torch
from naive_metrics import small_model, squared_discrepancy

from feature_alignment.metrics import (
    class_agreement,
    classifier_fid,
    classifier_for,
    evaluate,
    psnr,
    reconstruction_error,
    ssim,
    stages_of,
)
from feature_alignment.metrics.evaluation import _reconstruct_and_sample
from feature_alignment.models import FA, VFA, VFAGAN


def test_evaluate_reports_every_stage_beside_the_reference(splits, monkeypatch):
    monkeypatch.setattr("feature_alignment.metrics.chunks.CHUNK", 64)  # several chunks
    model = small_model(refiner_filters=4, discriminator_width=8)
    found = evaluate(model, *splits, seed=3, limit=150)
    assert (found["images"], found["samples"], found["seed"]) == (150, 150, 3)
    for name in ("reconstruction_error", "psnr", "ssim", "classifier_fid", "class_agreement"):
        assert list(found[name]) == ["feature", "refined", "reference"]
    assert not {"fid", "kid", "notes"} & set(found)
    spread = (np.arange(150) * 499 / 149).round().astype(int).tolist()
    images, labels = splits[1].images()[spread], splits[1].labels[spread]
    assert torch.bincount(labels).min() >= 14  # every class has its share
    features = model.reconstruct(images, labels)
    assert found["reconstruction_error"]["feature"] == pytest.approx(reconstruction_error(images, features), rel=1e-5)
    refined = model.refine(features, labels)
    assert found["reconstruction_error"]["refined"] == pytest.approx(reconstruction_error(images, refined), rel=1e-5)
    assert found["psnr"]["refined"] == pytest.approx(psnr(images, refined), rel=1e-5)
    assert found["ssim"]["feature"] == pytest.approx(ssim(images, features), rel=1e-5)
    mean = splits[0].images().mean(0).expand_as(images)
    assert found["ssim"]["reference"] == pytest.approx(ssim(images, mean), rel=1e-4)
    generator = torch.Generator().manual_seed(3)
    chunks = [model.sample(len(each), each, generator=generator) for each in labels.split(64)]
    expected = classifier_fid(classifier_for(splits[0]), images, torch.cat(chunks))
    assert found["classifier_fid"]["feature"] == pytest.approx(expected, rel=1e-3)
    assert found["classifier_fid"]["reference"] < found["classifier_fid"]["feature"]
    accuracy = class_agreement(classifier_for(splits[0]), images, labels)
    assert found["class_agreement"]["feature"] < 0.5 < accuracy == found["class_agreement"]["reference"]
    assert found == evaluate(model, *splits, seed=3, limit=150)


def test_evaluate_calls_a_slow_reconstruct_once_and_uses_the_stage_of_the_model(splits, monkeypatch):
    model = small_model(VFA)
    monkeypatch.setattr(type(model), "stage", "decoded")
    with mock.patch.object(model, "reconstruct", wraps=model.reconstruct) as searched:
        found = evaluate(model, *splits, limit=20)
    assert searched.call_count == 1
    assert stages_of(found) == ["decoded", "reference"]


def test_what_cannot_be_measured_is_left_out_with_the_reason(splits):
    small = [replace(split, pixels=split.pixels[:, :, 10:14, 10:14].contiguous()) for split in splits]
    model = VFA((1, 4, 4), 2, classes=10, channels=(4,), width=8).eval()
    found = evaluate(model, *small, limit=1)
    assert not {"ssim", "classifier_fid"} & set(found)
    assert found["notes"]["ssim"] == "left out: images of 4 x 4 pixels are too small for its window"
    assert found["notes"]["classifier_fid"] == "left out: a distribution needs two images or more"
    assert found["psnr"]["feature"] > 0
    with pytest.raises(ValueError, match="limit: expected at least 1, got 0"):
        evaluate(model, *small, limit=0)
    nothing = replace(small[1], pixels=small[1].pixels[:0], labels=small[1].labels[:0])
    with pytest.raises(ValueError, match="test: expected at least one image, got none"):
        evaluate(model, small[0], nothing)


@pytest.mark.slow
def test_evaluate_measures_fid_and_kid_from_one_pass(inception, splits):
    model = small_model(VFA)
    with mock.patch.object(inception, "features", wraps=inception.features) as passes:
        found = evaluate(model, *splits, seed=1, limit=6, inception=inception)
        assert passes.call_count == 3  # held-out images, samples, reference
        again = evaluate(model, *splits, seed=1, limit=6, inception=inception)
        assert passes.call_count == 4  # only the samples are new
    assert found == again
    held_out = splits[1].images()[(np.arange(6) * 499 / 5).round()]
    labels = splits[1].labels[(np.arange(6) * 499 / 5).round()]
    samples = model.sample(6, labels, generator=torch.Generator().manual_seed(1))
    one, two = (inception.features(images).double().numpy() for images in (held_out, samples))
    # With the centred features in the rows of A and B, the root's trace is the sum of A B^T's singular values.
    a, b = ((each - each.mean(0)) / np.sqrt(5) for each in (one, two))
    root = np.linalg.svd(a @ b.T, compute_uv=False).sum()
    expected = ((one.mean(0) - two.mean(0)) ** 2).sum() + (a**2).sum() + (b**2).sum() - 2 * root
    assert found["fid"]["feature"] == pytest.approx(expected, rel=1e-3)
    assert found["kid"]["feature"] == pytest.approx(squared_discrepancy(one, two), rel=1e-3)
    assert set(found["fid"]) == set(found["kid"]) == {"feature", "reference"}
    assert found["notes"]["fid"].startswith("biased: 6 images give 2048 features a singular covariance")
    assert found["notes"]["inception"].startswith("other weights than the published ones")


def test_samples_that_are_not_finite_leave_their_distance_out_and_the_rest_measured(splits):
    """In a process of its own, once, this ended in a segmentation fault among the eigenvalues."""
    model = VFA((1, 28, 28), 2, classes=10, channels=(4,), width=8).eval()
    sample = model.sample

    def lost(*arguments, **options):
        images = sample(*arguments, **options)
        images[3, 0, 5, 5] = torch.nan
        return images

    with mock.patch.object(model, "sample", lost):
        found = evaluate(model, *splits, limit=20)
    assert found["notes"]["classifier_fid"] == "left out: 1 of 20 samples, feature, are not finite"
    assert "classifier_fid" not in found
    assert found["psnr"]["feature"] > 0


@pytest.mark.parametrize("kind", [FA, VFAGAN])
def test_held_out_images_without_labels_of_a_conditional_model(kind):
    """Classes of reconstructions are inferred, those of samples drawn."""
    small = {"latent": 3, "channels": (4,), "width": 8, "classes": 3}
    model = kind((1, 16, 16), **small).eval()
    images = torch.rand(5, 1, 16, 16)
    reconstructions, samples = _reconstruct_and_sample(model, images, None, 0)
    assert {stage: each.shape for stage, each in samples.items()} == dict.fromkeys(reconstructions, images.shape)
