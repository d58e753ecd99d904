"""Linear layers and their training data, shared by the studies of the weights and of the clamp."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.utils import skip_init

from ...core.local import LocalNetwork

__all__ = ["BATCH", "BOUND", "batch", "crop", "linear", "mean_error"]

#: The bound of equation 7.
BOUND = math.sqrt(2)
#: Samples of an update.
BATCH = 128


def linear(inputs: int, outputs: int, start: str, generator: torch.Generator, gain: float = 1) -> nn.Linear:
    """Return a linear layer without bias: PyTorch's ``default`` weights or ``orthogonal`` ones, times ``gain``."""
    layer: nn.Linear = skip_init(nn.Linear, inputs, outputs, bias=False)
    if start == "orthogonal":
        nn.init.orthogonal_(layer.weight, gain, generator=generator)
    else:
        # The initialisation of nn.Linear, which does not accept a generator.
        nn.init.uniform_(layer.weight, -gain / math.sqrt(inputs), gain / math.sqrt(inputs), generator=generator)
    return layer


def crop(images: Tensor, side: int) -> Tensor:
    """Return the middle of the first channel, at most ``side`` x ``side``, shape ``(N, pixels)``."""
    height, width = images.shape[2:]
    top, left = max(0, height - side) // 2, max(0, width - side) // 2
    return images[:, 0, top : top + side, left : left + side].flatten(1)


def batch(data: Tensor, generator: torch.Generator) -> Tensor:
    """Draw :data:`BATCH` samples."""
    return data[torch.randint(len(data), (BATCH,), generator=generator)]


@torch.no_grad()
def mean_error(network: LocalNetwork, data: Tensor) -> float:
    """Return the mean over the samples of the squared distance to the feature."""
    return float((data - network.run_backwards(network(data))).double().square().sum(1).mean())
