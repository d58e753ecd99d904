"""Options: frozen, inherited, given as keywords; seen in signatures and help."""

from __future__ import annotations

import dataclasses
import inspect
import math
import re
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import nn

from feature_alignment import models
from feature_alignment.models import AE, FA, VAE, VFA, VFAGAN, Model, Updates

MODELS = [getattr(models, name) for name in ("AE", "FA", "GAN", "GON", "Local", "VAE", "VFA", "VFAGAN")]


@pytest.mark.parametrize("kind", MODELS)
def test_the_signature_names_every_option_with_its_default_and_the_help_describes_it(kind):
    parameters = inspect.signature(kind).parameters
    for field in dataclasses.fields(kind.Options):
        assert parameters[field.name].default == field.default, field.name
        assert f"    {field.name}" in kind.__init__.__doc__ or f", {field.name}" in kind.__init__.__doc__, field.name
    assert not any(each.kind is each.VAR_KEYWORD for each in parameters.values())
    assert not any(isinstance(each.annotation, str) for each in parameters.values())


def test_options_inherit_as_the_models_do():
    assert VFAGAN((1, 8, 8), channels=(4,), width=8, refiner_filters=2, beta=0.3, steps=2).options.beta == 0.3
    assert VFA((1, 8, 8), channels=(4,), width=8).options.beta == "uniform"
    assert VAE((1, 8, 8), channels=(4,), width=8).options.beta == 1.0
    assert issubclass(VFAGAN.Options, VFA.Options)
    assert issubclass(VFA.Options, FA.Options)


def test_options_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        AE((1, 8, 8), channels=(4,), width=8).options.latent = 3


def test_an_unknown_option_is_named_with_its_nearest():
    with pytest.raises(TypeError, match="VFA has no option 'latnet_'; did you mean latent"):
        VFA((1, 8, 8), latnet_=3)
    with pytest.raises(TypeError, match="AE has no option 'zzz'; expected one of latent, "):
        AE((1, 8, 8), zzz=3)


def test_a_model_of_ones_own_names_its_options_too():
    class Scaled(FA):
        @dataclasses.dataclass(frozen=True)
        class Options(FA.Options):
            """Options of Scaled.

            Args:
                scale: of the images.
            """

            scale: float = 2.0

        def __init__(self, image_shape: Sequence[int], **options) -> None:
            super().__init__(image_shape, **options)

    model = Scaled((1, 8, 8), channels=(4,), width=8, scale=3.0)
    assert model.options.scale == 3.0
    assert inspect.signature(Scaled).parameters["scale"].default == 2.0
    assert "of the images" in Scaled.__init__.__doc__
    assert model.encode(torch.rand(2, 1, 8, 8)).shape == (2, 32)
    assert issubclass(Scaled, Model)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (VFAGAN, {"critic_clip": -0.5}, "critic_clip: expected a positive number, got -0.5"),
        (VFAGAN, {"refiner_filters": 0}, "refiner_filters: expected a size of 1 or more, got 0"),
        (VFAGAN, {"adversarial_weight": -1.0}, "adversarial_weight: expected at least 0, got -1"),
        (VFAGAN, {"augment": "mirror"}, "augment: expected any of translation, cutout, got 'mirror'"),
        (models.Local, {"steps": 0}, "steps: expected at least 1, got 0"),
        (models.Local, {"step_size": -1.0}, "step_size: expected a positive number, got -1"),
        (models.GON, {"channels": ()}, "channels: expected sizes of 1 or more"),
        (models.GAN, {"search_rate": 0.0}, "search_rate: expected a positive number, got 0"),
        (AE, {"channels": (0,)}, "channels: expected sizes of 1 or more"),
    ],
)
def test_options_out_of_range_are_named(kind, options, message):
    with pytest.raises(ValueError, match=message):
        kind((1, 8, 8), **({"channels": (4,), "width": 8} | options))


def test_one_augmentation_may_be_given_by_its_name():
    model = VFAGAN((1, 8, 8), channels=(4,), width=8, refiner_filters=2, augment="cutout")
    assert model.options.augment == ("cutout",)
    assert models.Updates(model, 1).step(torch.rand(4, 1, 8, 8))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"channels": 4}, "channels: expected several, each a whole number, got 4"),
        ({"steps": 2.0}, "steps: expected a whole number, got 2.0"),
        ({"width": 2.5}, "width: expected a whole number, got 2.5"),
        ({"learn_step_size": 1}, "learn_step_size: expected true or false, got 1"),
        ({"clip_gradient": True}, "clip_gradient: expected a number or none, got True"),
        ({"start": 3}, "start: expected a name, got 3"),
    ],
)
def test_values_of_another_kind_are_named(given, message):
    with pytest.raises(TypeError, match=re.escape(message)):
        FA((1, 16, 16), **{"latent": 3, "channels": (4,), "width": 8} | given)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"step_size": math.inf}, "step_size: expected a positive number"),
        ({"steps": 0, "start": "layers", "squash": "every", "decode_steps": 2}, "decode_steps: a model of 0 steps has"),
        (
            {"encoder": nn.Flatten(), "width": 8},
            r"encoder: expected an output of shape (N, 8), for one image got (1, 256)",
        ),
    ],
)
def test_values_that_no_model_can_have_are_named(given, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        FA((1, 16, 16), **{"latent": 3, "channels": (4,), "width": 8} | given)


def test_numbers_of_numpy_are_numbers():
    model = FA((1, 16, 16), latent=np.int64(3), channels=[np.int32(4)], width=8, step_size=np.float32(0.5))
    assert model.decode(torch.zeros(1, 3)).shape == (1, 1, 16, 16)


def test_more_steps_than_none_are_refused():
    model = FA((1, 16, 16), latent=3, channels=(4,), width=8, steps=0, start="layers", squash="every")
    with pytest.raises(ValueError, match="steps: a model of 0 steps has no step size for 1 of them"):
        model.feature(torch.zeros(1, 3), steps=1)


def test_a_frozen_network_is_not_trained():
    model = FA((1, 16, 16), latent=3, channels=(4,), width=8).requires_grad_(False)
    with pytest.raises(ValueError, match="FA: all parameters of one of its optimisers are frozen"):
        Updates(model, total=1)
    with pytest.raises(ValueError, match="total: expected at least 1, got 0"):
        Updates(FA((1, 16, 16), latent=3, channels=(4,), width=8), total=0)
