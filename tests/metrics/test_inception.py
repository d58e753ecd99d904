"""Inception with random weights against torch-fidelity."""

from __future__ import annotations

from dataclasses import replace
from unittest import mock

import torch
from torch_fidelity import feature_extractor_inceptionv3

from feature_alignment.metrics import INCEPTION_URL, inception_features


def test_url_is_that_of_torch_fidelity():
    assert feature_extractor_inceptionv3.URL_INCEPTION_V3 == INCEPTION_URL


def test_inception_sees_what_torch_fidelity_sees(weights, inception, splits):
    original = feature_extractor_inceptionv3.FeatureExtractorInceptionV3("original", ["2048"], str(weights))
    pixels = splits[1].pixels[:3]
    expected = original(pixels.repeat(1, 3, 1, 1))[0]
    features = inception.features(pixels.float() / 255)
    assert expected.std(0).mean() > 1e-3 * expected.abs().mean()
    assert torch.allclose(features, expected, rtol=1e-4)
    assert torch.allclose(inception.features(pixels / 255 + 0.4 / 255), expected, rtol=1e-4)  # rounded to 8 bits
    colours = torch.randint(256, (2, 3, 16, 16), dtype=torch.uint8)
    assert torch.allclose(inception.features(colours / 255), original(colours)[0], rtol=1e-4)
    assert not inception.official


def test_features_of_real_images_are_computed_once(inception, splits):
    images = replace(splits[1], pixels=splits[1].pixels[:2], labels=None)
    first = inception_features(inception, images)
    with mock.patch.object(inception, "features", side_effect=AssertionError("again")):
        assert torch.equal(inception_features(inception, images), first)
    # Other images, or other weights, are another matter.
    others = replace(images, pixels=splits[1].pixels[2:4])
    assert not torch.equal(inception_features(inception, others), first)
    with mock.patch.object(inception, "identity", "other"), mock.patch.object(inception, "features") as again:
        again.return_value = first + 1
        assert torch.equal(inception_features(inception, images), first + 1)
