"""Traversals of PyTorch's autograd graph."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor
from torch.utils import _pytree as pytree

from .structures import Structure

__all__ = ["graph_leaves", "nodes"]


def nodes(outputs: Structure) -> Iterator[Any]:
    """Yield every node of the graph of the tensors in ``outputs``, once each."""
    waiting = [leaf.grad_fn for leaf in pytree.tree_leaves(outputs) if isinstance(leaf, Tensor)]
    seen = set()
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            seen.add(node)
            yield node
            waiting += [following for following, _ in node.next_functions]


def graph_leaves(outputs: Structure) -> list[Tensor]:
    """Return the leaf tensors, such as parameters, in which gradients of ``outputs`` accumulate."""
    own = [leaf for leaf in pytree.tree_leaves(outputs) if isinstance(leaf, Tensor)]
    leaves = [each for each in own if each.requires_grad and each.grad_fn is None]
    return leaves + [node.variable for node in nodes(outputs) if hasattr(node, "variable")]
