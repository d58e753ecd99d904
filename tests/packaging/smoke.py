"""The package proper at work where torch, numpy and safetensors are all there is, run by any Python that has it.

Every result is compared with a closed form. Needs no test library.
"""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
import tempfile

import torch
from torch import nn

import feature_alignment
from feature_alignment import LayeredStart, align, diagnose, invert, largest_singular_value, maximise, select
from feature_alignment.core.layered_start import cut
from feature_alignment.core.local import Arcsinh, LocalNetwork
from feature_alignment.models import FA, VFAGAN, Model, Updates


def close(got: torch.Tensor, wanted: torch.Tensor) -> None:
    torch.testing.assert_close(got, wanted, rtol=1e-6, atol=1e-8)


def alignment() -> None:
    layer, z = nn.Linear(6, 4), torch.randn(3, 4)
    close(align(layer, z, torch.zeros(1, 6)), (z - layer.bias) @ layer.weight)
    close(largest_singular_value(layer, torch.zeros(1, 6), iterations=500)[0][0], torch.linalg.norm(layer.weight, 2))
    feature = align(layer, z, torch.zeros(1, 6), steps=3, step_size="auto")
    (gradient,) = torch.autograd.grad(feature.sum(), layer.weight)
    assert gradient.isfinite().all()


def inversion() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.SiLU(), nn.Flatten(), nn.Linear(4 * 36, 8))
    images, grey = torch.rand(2, 3, 8, 8), torch.full((1, 3, 8, 8), 0.5)
    for variables in ("pixels", "bounded", "natural"):
        found = invert(network, network(images), grey, tol=1e-4, variables=variables)
        assert found.converged.all(), variables
        assert (network(found.input) - network(images)).norm() <= 2e-4 * network(images).norm()
    hidden = select(network, "0")
    close(hidden(images), network[0](images))
    report = diagnose(network, images, layers=["0"], max_evaluations=20)
    assert report["0"].size == 4 * 36
    assert bool((maximise(network, grey, units=3).value > network(grey)[:, 3]).all())


def training() -> None:
    network = LocalNetwork([nn.Linear(6, 6), Arcsinh()], (6,))
    nn.init.orthogonal_(network[0].weight)  # whose transpose is its inverse
    x = torch.randn(5, 6)
    close(network.run_backwards(network(x)), x)
    encoder = nn.Sequential(nn.Linear(6, 5), nn.SiLU(), nn.Linear(5, 3))
    start = LayeredStart(cut(encoder), torch.zeros(1, 6))
    assert align(encoder, encoder(x), start, squash=torch.sigmoid).shape == x.shape


def models() -> None:
    images = torch.rand(8, 1, 8, 8)
    for kind in (FA, VFAGAN):
        model = kind((1, 8, 8), latent=4, channels=(4,), width=16).double()
        updates = Updates(model, total=2)
        losses = [updates.step(images) for _ in range(2)]
        assert all(value.isfinite() for each in losses for value in each.values())
        with tempfile.TemporaryDirectory() as folder:
            model.eval().save_pretrained(folder)
            close(Model.from_pretrained(folder).reconstruct(images), model.reconstruct(images))


def command() -> None:
    def falign(*arguments: str) -> subprocess.CompletedProcess[str]:
        line = [sys.executable, "-m", "feature_alignment", *arguments]
        return subprocess.run(line, capture_output=True, text=True, check=False)

    assert falign("--version").stdout == f"falign {feature_alignment.__version__}\n"
    assert importlib.metadata.version("feature-alignment") == feature_alignment.__version__
    try:
        import jsonargparse  # noqa: F401
    except ImportError:
        refused = falign("quickstart")
        assert refused.returncode == 2, refused.stderr
        assert refused.stderr.count("\n") == 1, refused.stderr
        assert refused.stderr.endswith("pip install 'feature-alignment[train]'\n"), refused.stderr


if __name__ == "__main__":
    torch.manual_seed(0)
    torch.set_default_dtype(torch.double)
    for each in (alignment, inversion, training, models, command):
        each()
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("torch", "numpy", "safetensors"))
    print(f"feature-alignment {feature_alignment.__version__} works with Python {sys.version.split()[0]}, {versions}")
