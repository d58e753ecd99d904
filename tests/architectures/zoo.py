"""The zoo: architectures of every family, narrow and short, with random weights, in float64 and eval mode.

A new one is a function that builds it, under ``@architecture``, in the file of its library. timm and transformers are
imported where they are needed; no weights are downloaded.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
import torch.fx
from torch import Tensor, nn

__all__ = ["ARCHITECTURES", "Applied", "Architecture", "Network", "architecture", "by_affine", "by_clamp"]

Network = Callable[[Tensor], Any]


@dataclass(frozen=True)
class Architecture:
    """A kind of network.

    Attributes:
        name: of the kind.
        library: that defines it.
        shape: of one input.
        maker: of the network; parameters, if any, are those of the module it is or has as ``module``.
        equivalent: from a network to one that computes the same in operations that PyTorch differentiates twice.
        tolerance: of gradients, relative to the largest entry; larger for networks that compute parts in float32.
        quick: whether it belongs to the fast tests.
    """

    name: str
    library: str
    shape: tuple[int, ...]
    maker: Callable[[], Network]
    equivalent: Callable[[Any], Network] = field(default=lambda network: network)
    tolerance: float = 1e-8
    quick: bool = False

    def build(self, seed: int = 0) -> Network:
        """Return the network, batch norms calibrated so that activations neither vanish nor explode."""
        if self.is_plain(network := _made(self, seed)):
            return copy.deepcopy(network)
        torch.manual_seed(seed)
        return self.maker()

    @staticmethod
    def is_plain(network: Network) -> bool:
        """Say whether it is a module that is neither exported nor a script, which are in float64 and eval mode."""
        special = torch.jit.ScriptModule | torch.fx.GraphModule
        return isinstance(network, nn.Module) and not isinstance(network, special)

    def inputs(self, count: int, seed: int) -> Tensor:
        """Return random inputs: normal, of standard deviation a half."""
        draws = torch.Generator().manual_seed(seed)
        return torch.randn(count, *self.shape, generator=draws, dtype=torch.double) / 2


ARCHITECTURES: dict[str, Architecture] = {}


def architecture(library: str, *shape: int, **options: Any) -> Callable[[Callable[[], Network]], Callable[[], Network]]:
    """Add what the decorated function builds to the zoo, under the function's name."""

    def add(maker: Callable[[], Network]) -> Callable[[], Network]:
        name = maker.__name__.strip("_")
        ARCHITECTURES[name] = Architecture(name, library, shape, maker, **options)
        return maker

    return add


@functools.lru_cache(maxsize=1)
def _made(architecture: Architecture, seed: int) -> Network:
    torch.manual_seed(seed)
    network = architecture.maker()
    if architecture.is_plain(network):
        _initialise(network)
        _calibrate(network.double().eval(), architecture.inputs(8, seed + 1))
        network.eval()
    return network


def _initialise(network: nn.Module) -> None:
    """Outputs that vary with the input: many an architecture's own first weights are all but zero."""
    for module in network.modules():
        if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d) and module.weight.is_leaf:
            gain = "linear" if isinstance(module, nn.Linear) else "relu"
            nn.init.kaiming_normal_(module.weight, nonlinearity=gain)


@torch.no_grad()
def _calibrate(network: nn.Module, inputs: Tensor) -> None:
    norms = [each for each in network.modules() if isinstance(each, nn.modules.batchnorm._BatchNorm)]
    if norms:
        for each in norms:
            each.momentum = None  # the average over all batches: this one
            each.train()
        network(inputs)


class Applied(nn.Module):
    """A module behind a function of it and its input: other arguments, one part of the output."""

    def __init__(self, module: nn.Module, function: Callable[[nn.Module, Tensor], Any]) -> None:
        super().__init__()
        self.module, self.function = module, function

    def forward(self, x: Tensor) -> Any:
        return self.function(self.module, x)


def replaced(network: nn.Module, kind: type[nn.Module], by: Callable[[nn.Module], nn.Module]) -> nn.Module:
    """Return a copy in which every module of a kind is another, the parameters in the same order."""
    network = copy.deepcopy(network)
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, kind):
                setattr(module, name, by(child))
    return network


class HardSigmoidByClamp(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return (x / 6 + 0.5).clamp(0, 1)


class AffineOfStatistics(nn.Module):
    """Batch normalisation in eval mode. PyTorch's own is wrong on a CPU (2.14) for a batch of one whose gradient comes
    from ``flatten(2).transpose(1, 2)``: its strides are taken for those of channels_last.
    """

    def __init__(self, norm: Any) -> None:
        super().__init__()
        self.weight, self.bias, self.eps = norm.weight, norm.bias, norm.eps
        self.mean, self.variance = norm.running_mean, norm.running_var

    def forward(self, x: Tensor) -> Tensor:
        shape = (1, -1, *[1] * (x.ndim - 2))
        scale = self.weight / (self.variance + self.eps).sqrt()
        return x * scale.view(shape) + (self.bias - self.mean * scale).view(shape)


by_affine = partial(replaced, kind=nn.modules.batchnorm._BatchNorm, by=AffineOfStatistics)
by_clamp = partial(replaced, kind=nn.Hardsigmoid, by=lambda _: HardSigmoidByClamp())
