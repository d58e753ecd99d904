"""Inception-v3, the feature extractor of FID and KID. Needs the extra ``[fid]``."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from torch import Tensor, nn

from ..data import Images
from ..extras import require
from ..progress import progress
from .cache import cached_tensors

__all__ = ["INCEPTION_URL", "Inception", "inception_features", "inception_weights"]

#: Images per call, few as the activations are large; bounds the memory without changing results.
CHUNK = 50

#: The weights of the Inception-v3 with which FID is defined, as torch-fidelity converted and serves them.
INCEPTION_URL = (
    "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth"
)


def inception_weights() -> Path:
    """Return the path where PyTorch Hub, and hence torch-fidelity, caches the weights of Inception-v3."""
    return Path(torch.hub.get_dir()) / "checkpoints" / INCEPTION_URL.rpartition("/")[2]


class Inception(nn.Module):
    """The Inception-v3 that defines FID and KID, up to its 2048 pooled features.

    Images are rounded to 8 bits, as in image files, and resized to 299 x 299 pixels as in the original
    implementation; grey images are repeated in three channels. Nothing is downloaded.

    Args:
        weights: the file at :data:`INCEPTION_URL`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file does not contain these weights.
        MissingExtra: torch-fidelity is not installed.

    Shape:
        images ``(N, C, H, W)`` in [0, 1], on any device, with one or three channels, to features ``(N, 2048)``.
    """

    num_features = 2048

    def __init__(self, weights: str | Path) -> None:
        super().__init__()
        path = Path(weights)
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such file; expected the weights of Inception-v3 from {INCEPTION_URL}")
        require("torch_fidelity", "fid", "FID and KID")
        network = require("torchmetrics.image.fid", "train", "FID and KID").NoTrainInceptionV3
        with path.open("rb") as file:
            #: SHA-256 of the file.
            self.identity = hashlib.file_digest(file, "sha256").hexdigest()
        try:
            # Loaded here first, as torch-fidelity would execute code in a malicious pickle.
            torch.load(path, map_location="cpu", weights_only=True)
            self.network = network("inception-v3-compat", [str(self.num_features)], str(path), antialias=False)
        except Exception:  # unpickling and loading raise errors of many types, with messages of many lines
            raise ValueError(f"{path}: not the weights of Inception-v3; expected the file at {INCEPTION_URL}") from None

    @property
    def official(self) -> bool:
        """Whether the weights are those of :data:`INCEPTION_URL`, whose name ends in the start of their SHA-256."""
        return self.identity.startswith(Path(INCEPTION_URL).stem.rpartition("-")[2])

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Return the features."""
        pixels = (images * 255).round().clamp(0, 255).to(next(self.network.parameters()).device, torch.uint8)
        found: Tensor = self.network(pixels.expand(-1, 3, -1, -1))
        return found

    def features(self, images: Tensor) -> Tensor:
        """Return the features of any number of images, on the CPU."""
        chunks = progress(images.split(CHUNK), "evaluating Inception")
        return torch.cat([self(chunk).cpu() for chunk in chunks])


def inception_features(inception: Inception, images: Images) -> Tensor:
    """Return the features of real images, shape ``(N, 2048)``, computed once and cached."""
    key = hashlib.sha256(f"{inception.identity} {images.shape}".encode())
    key.update(images.pixels.numpy().tobytes())
    name = f"inception-{images.split}-{len(images)}-{Path(images.name).name}"
    compute = lambda: {"features": inception.features(images.images())}  # noqa: E731
    return cached_tensors(name, key.hexdigest()[:16], compute)["features"]
