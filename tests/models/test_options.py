"""Options: frozen, inherited, given as keywords; seen in signatures and help."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Sequence

import pytest
import torch

from feature_alignment import models
from feature_alignment.models import AE, FA, VAE, VFA, VFAGAN, Model

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
