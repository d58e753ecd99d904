"""Named sets at another size or in other colours."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image

from feature_alignment.data import cache_directory, load


def test_resizing_and_colouring_by_chunks_is_cached_and_equals_the_whole(place, monkeypatch):
    monkeypatch.setattr("feature_alignment.data.resizing.CHUNK", 3)
    folder = place / "cifar-10-batches-bin"
    folder.mkdir()
    records = np.random.default_rng(0).integers(0, 256, (8, 3073), np.uint8)
    records[:, 0] = range(8)
    records.tofile(folder / "test_batch.bin")
    whole = records[:, 1:].reshape(8, 3, 32, 32).astype(np.float64)
    grey = load("cifar10", "test", channels=1, image_size=16)
    luma = np.tensordot([0.299, 0.587, 0.114], whole, (0, 1)).round().astype(np.uint8)
    for image, expected in zip(grey.pixels[:, 0], luma, strict=True):
        resized = Image.fromarray(expected).resize((16, 16), Image.Resampling.BICUBIC)
        # PIL's bicubic is steeper by a hair (a = -0.5 with fixed-point weights): within a grey value or two
        assert np.abs(np.asarray(resized, int) - image.numpy().astype(int)).max() <= 2
    assert grey.labels.tolist() == list(range(8))
    assert grey.classes[1] == "automobile"
    (folder / "test_batch.bin").unlink()
    built = {path.name: path.stat().st_mtime_ns for path in cache_directory().glob("*/images.npy")}
    assert torch.equal(load("cifar10", "test", channels=1, image_size=16).pixels, grey.pixels)  # from the cache
    assert {path.name: path.stat().st_mtime_ns for path in cache_directory().glob("*/images.npy")} == built
    assert sorted(path.name for path in cache_directory().iterdir()) == ["cifar10-test", "cifar10-test-1x16x16"]
    assert torch.equal(load("cifar10", "test", channels=3, image_size=32).pixels, load("cifar10", "test").pixels)
    assert len(list(cache_directory().iterdir())) == 2
