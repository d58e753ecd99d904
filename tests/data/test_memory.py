"""A set of any size is decoded and trained on in the same memory."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from image_files import png

#: Decodes the folder argv[1], trains a linear layer on all of it, and prints the peak of anonymous memory.
TRAINING = """
import re, sys, threading, time
from pathlib import Path
import torch
from feature_alignment.data import Batches, load
peak, over = 0, False
def watch():
    global peak
    while not over:
        peak = max(peak, int(re.search(r"RssAnon:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]))
        time.sleep(0.002)
threading.Thread(target=watch, daemon=True).start()
images = load(sys.argv[1], "train", image_size=96)
layer = torch.nn.Linear(3 * 96 * 96, 8)
adam = torch.optim.Adam(layer.parameters())
batches = Batches(images, 128, seed=0)
for update in range(len(batches)):
    pixels, _ = batches.batch(update)
    layer(pixels.flatten(1).float() / 255).square().mean().backward()
    adam.step()
    adam.zero_grad()
over = True
print(len(images), peak)
"""


def peak_of(folder, cache):
    command = [sys.executable, "-c", TRAINING, str(folder)]
    environment = {"FALIGN_CACHE": str(cache), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ | environment)
    count, peak = map(int, done.stdout.split())
    return count, peak * 1024


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc has the anonymous memory")
def test_a_set_three_times_as_large_needs_no_more_memory(tmp_path):
    content = png((9, 99, 199), (4, 4))
    peaks = []
    for count in (3_000, 9_000):  # 75 and 224 MB decoded
        folder = tmp_path / str(count)
        folder.mkdir()
        for number in range(count):
            (folder / f"{number}.png").write_bytes(content)
        found, peak = peak_of(folder, tmp_path / "cache")
        assert found == count * 9 // 10
        peaks.append(peak)
    print(f"peaks of anonymous memory: {peaks[0] / 1e6:.0f} and {peaks[1] / 1e6:.0f} MB")
    assert peaks[1] - peaks[0] < 50e6
