"""The nodes of an autograd graph that every path from an input to the outputs goes through."""

from __future__ import annotations

from collections import Counter
from typing import Any

from torch import Tensor

from ..graphs import nodes

__all__ = ["cuts"]


def cuts(outputs: list[Tensor], point: Tensor) -> set[Any]:
    """Return the nodes without which the outputs would not depend on ``point``, a leaf that requires a gradient.

    The nodes between them are visited from the outputs to the point, each after all that depend on it. A node is a cut
    if at that moment every edge that leaves the visited ones ends in it.

    Example:
        >>> x = torch.ones(2, requires_grad=True)
        >>> y = x.exp()
        >>> z = y.sin() + y
        >>> cuts([z], x) == {z.grad_fn, y.grad_fn}
        True
    """
    everything = list(nodes(outputs))
    between = _leading_to(point, everything)
    ends = [leaf.grad_fn for leaf in outputs if leaf.grad_fn in between]
    entering = Counter(ends)
    for node in between:
        entering.update(_next(node, between))
    missing, open_edges = dict(entering), len(ends)
    ready: list[Any] = []
    found = set()
    for end in ends:
        _enter(end, missing, ready)
    while ready:
        node = ready.pop()
        open_edges -= entering[node]
        if not open_edges and not hasattr(node, "variable"):
            found.add(node)
        following = _next(node, between)
        open_edges += len(following)
        for each in following:
            _enter(each, missing, ready)
    return found


def _enter(node: Any, missing: dict[Any, int], ready: list[Any]) -> None:
    missing[node] -= 1
    if not missing[node]:
        ready.append(node)


def _next(node: Any, among: set[Any]) -> list[Any]:
    return [each for each, _ in node.next_functions if each in among]


def _leading_to(point: Tensor, everything: list[Any]) -> set[Any]:
    """Return the nodes on a path to ``point``."""
    before: dict[Any, list[Any]] = {}
    for node in everything:
        for following, _ in node.next_functions:
            before.setdefault(following, []).append(node)
    waiting = [node for node in everything if getattr(node, "variable", None) is point]
    found = set(waiting)
    while waiting:
        fresh = [node for node in before.get(waiting.pop(), []) if node not in found]
        found.update(fresh)
        waiting += fresh
    return found
