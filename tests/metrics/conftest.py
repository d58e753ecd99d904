"""Digits, a small classifier, and Inception with random weights: the published ones are not at hand."""

from __future__ import annotations

from unittest import mock

import pytest
import torch
from torch import nn
from torch_fidelity import feature_extractor_inceptionv3

from feature_alignment.data import load
from feature_alignment.metrics import Inception, classifier_for


@pytest.fixture(scope="session")
def splits():
    return load("mnist-mini", "train"), load("mnist-mini", "test")


@pytest.fixture(scope="session")
def classifier(splits):
    return classifier_for(splits[0], steps=500)


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    """A file in the layout of the published one."""
    torch.manual_seed(0)
    extractor = feature_extractor_inceptionv3.FeatureExtractorInceptionV3
    with (
        mock.patch.object(feature_extractor_inceptionv3, "load_state_dict_from_url"),
        mock.patch.object(extractor, "load_state_dict"),
    ):
        network = extractor("random", ["2048"])
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight)  # so that the images still make a difference at the end
    path = tmp_path_factory.mktemp("weights") / "inception.pth"
    torch.save(network.state_dict(), path)
    return path


@pytest.fixture(scope="session")
def inception(weights):
    return Inception(weights)
