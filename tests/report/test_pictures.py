"""What a model makes, as pictures."""

from __future__ import annotations

from unittest import mock

import numpy as np
import pytest
import torch
from naive_metrics import small_model
from PIL import Image

from feature_alignment.data import Images
from feature_alignment.models import VFA
from feature_alignment.report import one_of_each, reconstruction_picture, sample_picture, save_image, sheets


def numbered(count, labels=None):
    pixels = torch.arange(count, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 2, 2)
    return Images("numbers", "test", pixels, labels, ("a", "b"))


def test_images_are_evenly_spaced_and_of_every_class():
    images, labels = one_of_each(numbered(9), 3)
    assert (images[:, 0, 0, 0] * 255).round().tolist() == [0, 4, 8]
    assert labels is None
    images, labels = one_of_each(numbered(6, torch.tensor([0, 1, 0, 1, 1, 0])), 4)
    assert labels.tolist() == [0, 0, 1, 1]
    assert (images[:, 0, 0, 0] * 255).round().tolist() == [0, 5, 1, 4]  # 0, 2, 5 of the one, 1, 3, 4 of the other
    assert len(one_of_each(numbered(2), 5)[0]) == 2


@pytest.mark.parametrize("channels", [1, 3])
def test_one_image_is_written_pixel_for_pixel(tmp_path, channels):
    values = torch.randint(256, (channels, 5, 7), dtype=torch.uint8)
    save_image(values.float() / 255, tmp_path / "image.png")
    found = np.asarray(Image.open(tmp_path / "image.png"))
    assert np.array_equal(found.reshape(5, 7, channels), values.permute(1, 2, 0).numpy())


def test_reconstructions_show_every_version_the_model_has():
    model = small_model(refiner_filters=4, discriminator_width=8)
    images, labels = torch.rand(3, 1, 28, 28), torch.tensor([1, 2, 3])
    with mock.patch.object(sheets, "pairs", return_value=b"") as pairs:
        reconstruction_picture(model, images, labels)
    shown = pairs.call_args.args[0]
    assert list(shown) == ["original", "feature", "refined"]
    torch.testing.assert_close(shown["feature"], model.reconstruct(images, labels))
    torch.testing.assert_close(shown["refined"], model.refine(shown["feature"], labels))


def test_samples_have_a_column_a_class_and_the_names_of_those_that_are_known():
    model = small_model(VFA)
    with mock.patch.object(sheets, "grid", return_value=b"") as grid:
        sample_picture(model, ("zero", "one"), rows=2, columns=[1, 3], seed=5)
    assert grid.call_args.kwargs["columns"] == ["one", "3"]
    labels = torch.tensor([1, 3, 1, 3])
    expected = model.sample(4, labels, 1.0, torch.Generator().manual_seed(5))
    torch.testing.assert_close(grid.call_args.args[0].flatten(0, 1), expected)
