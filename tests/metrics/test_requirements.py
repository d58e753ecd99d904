"""Measures without the optional requirements."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import sys
optional = ("datasets", "matplotlib", "PIL", "mlxtend", "torchmetrics", "torch_fidelity", "pytorch_lightning", "jinja2")
sys.modules.update(dict.fromkeys(optional))
import torch
from feature_alignment.metrics import Inception, frechet_distance, psnr, reconstruction_error
images = torch.zeros(3, 1, 8, 8)
print(reconstruction_error(images, images + 0.5))
for measure in (psnr, frechet_distance, lambda one, two: Inception(sys.executable)):
    try:
        measure(images, images)
    except ImportError as error:
        print(type(error).__name__, error)
"""


def test_what_needs_no_extra_works_and_the_rest_names_it():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "16.0",
        "MissingExtra PSNR: needs torchmetrics: pip install 'feature-alignment[train]'",
        "MissingExtra the Fréchet distance: needs torchmetrics: pip install 'feature-alignment[train]'",
        "MissingExtra FID and KID: needs torch_fidelity: pip install 'feature-alignment[fid]'",
    ]
