"""Images as one tensor."""

from __future__ import annotations

import numpy as np
import torch

from feature_alignment.data import to_pixels


def test_pixels_and_images_are_inverse():
    pixels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    assert np.array_equal(to_pixels(pixels.float() / 255)[0, :, :, 0], pixels[0, 0].numpy())
