"""Pictures in HTML: the same pixels, and text that cannot become markup."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
import torch
from PIL import Image

from feature_alignment.explorer.markup import bars, data_url, figure, grid, line


def test_the_pixels_survive():
    for channels in (1, 3):
        pixels = torch.randint(256, (channels, 5, 7), generator=torch.Generator().manual_seed(0))
        url = data_url(pixels / 255)
        found = np.asarray(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))))
        assert np.array_equal(found.reshape(5, 7, channels), pixels.permute(1, 2, 0).numpy())
    assert data_url(torch.full((1, 2, 2), torch.nan)) == data_url(torch.zeros(1, 2, 2))


def test_text_is_escaped():
    image = torch.zeros(1, 2, 2)
    for said in (figure(image, "<b>"), grid([image[None]], ["<b>"]), line("<b>"), bars(torch.zeros(3), "<b>")):
        assert "<b>" not in said
        assert "&lt;b&gt;" in said


def test_bars_go_up_and_down_from_zero_on_one_scale():
    said = bars(torch.tensor([1.5, -4.0, 0.0]), "latent")
    numbers = re.findall(r'y="(-?[\d.]+)" height="([\d.]+)"', said)
    assert [tuple(map(float, each)) for each in numbers] == [(-1.5, 1.5), (0, 4), (0, 0)]
    assert 'viewBox="0 -4.000 3 8.000"' in said
