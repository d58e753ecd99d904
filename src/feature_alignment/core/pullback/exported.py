"""Modules from ``torch.export`` with a fixed batch, evaluated at any."""

from __future__ import annotations

import torch
from torch import Tensor, fx, nn
from torch.export.unflatten import UnflattenedModule
from torch.utils import _pytree as pytree

from ..structures import Network, Structure

__all__ = ["any_batch"]


def any_batch(network: Network) -> Network:
    """Return the network, wrapped to accept any batch size if it was exported with a fixed one."""
    size = _fixed_batch(network)
    return network if size is None else _Padded(network, size)


def _fixed_batch(network: Network) -> int | None:
    """Return the batch that an exported module, or one inside the network, insists on, if there is one."""
    if not isinstance(network, nn.Module):
        return None
    exported = (fx.GraphModule, UnflattenedModule)
    graphs = [module.graph for module in network.modules() if isinstance(module, exported)]
    sizes = [size for size in map(_batch_of, graphs) if size is not None]
    return max(sizes, default=None)


def _batch_of(graph: fx.Graph) -> int | None:
    """Return the batch of a graph's first input, where it was exported with a fixed one."""
    inputs = [node for node in graph.nodes if node.op == "placeholder"]
    example = inputs[0].meta.get("val") if inputs else None
    if isinstance(example, Tensor) and example.ndim and isinstance(example.shape[0], int):
        return example.shape[0]
    return None


class _Padded:
    """The network evaluated in batches of one size, the last one padded with copies of the first sample."""

    def __init__(self, network: Network, size: int) -> None:
        self.network, self.size = network, size

    def __call__(self, x: Tensor) -> Structure:
        """Evaluate ``x``, shape ``(N, ...)``."""
        count = len(x)
        filled = torch.cat([x, x[:1].expand(-count % self.size, *x.shape[1:])])
        outputs = [self.network(part) for part in filled.split(self.size)]
        return pytree.tree_map(lambda *parts: None if parts[0] is None else torch.cat(parts)[:count], *outputs)
