r"""The vector-Jacobian product of a chain of layers, one layer after the other.

With :math:`E = E_L \circ \dots \circ E_1` a cotangent is pulled back as :math:`J^\top e = J_1^\top \dots J_L^\top e`,
and for common layers every :math:`J_l^\top` is known: a convolution's is the transposed convolution, an activation's
the product with its slopes. Written out like this, the pull-back is itself an ordinary network, run from the last layer
to the first:

- Its derivatives are as fast as those of any network. PyTorch's double backward of a convolution uses kernels as large
  as the feature maps, and for piecewise-linear activations it accumulates second derivatives that are identically zero.
  (That the former is worth avoiding was observed by Karras et al., *Analyzing and improving the image quality of
  StyleGAN*, 2020.)
- Slopes and weights at one point serve any number of cotangents: a batch that starts at the same point.
- It compiles in one piece.

Layers without a rule are left to automatic differentiation, see :mod:`.autodiff`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias, cast

import torch
from torch import Tensor, nn

from ..speed.fusion import hooked
from ..structures import Network, Structure
from .autodiff import PullBack, by_differentiation, path_taken, works_in_place
from .exported import any_batch

__all__ = ["Chain", "PullBack", "Rule", "computes_as", "path_of", "register_pull_back", "rule_of", "vjp"]

Rule: TypeAlias = Callable[[Any, Tensor], tuple[Structure, PullBack]]

#: How to pull back, by type of the layer or, for functions, by the function itself. See :func:`register_pull_back`.
RULES: dict[Any, Rule] = {}


class Chain:
    """Functions, one after the other: what :class:`torch.nn.Sequential` is for modules.

    Args:
        parts: from a tensor to a tensor each, the last one to any structure.
    """

    def __init__(self, parts: Sequence[Network]) -> None:
        self.parts = parts

    def __call__(self, x: Tensor) -> Structure:
        """Apply all parts to ``x``, first to last."""
        for part in self.parts:
            x = part(x)
        return x


def vjp(network: Network, point: Tensor) -> tuple[Structure, PullBack]:
    r"""Return :math:`E(r)` and the function :math:`e \mapsto J(r)^\top e`; both are differentiable.

    Args:
        network: :math:`E`, as for :func:`feature_alignment.align`. A :class:`torch.nn.Sequential` and a :class:`Chain`
            are taken apart.
        point: :math:`r`, shape ``(N, ...)``, or ``(1, ...)`` to pull back any number of cotangents there.

    Returns:
        The output; and a function from cotangents, of the structure and dtypes of the output and with ``N`` samples, or
        any number if ``point`` is one, to as many tensors of the shape and dtype of a sample of ``point``. Where the
        output has ``None``, a cotangent has it too.

    Raises:
        TypeError: a part of the output is neither a floating-point tensor nor ``None``.
    """
    if _works_in_place(network):
        point = point.clone()  # the caller's stays as it is
    return rule_of(network)(network, point)


def register_pull_back(kind: Any, rule: Rule) -> None:
    """Say how to pull back through a layer of your own, where that is quicker than by differentiation.

    Args:
        kind: type of the layer; it holds for types derived from it too, unless they have a ``forward`` of their own.
        rule: from the layer and its input to its output and the pull-back, as :func:`vjp` has them. Both have to be
            differentiable with respect to the layer's parameters, and the pull-back to the input too.
    """
    RULES[kind] = rule


def rule_of(network: Network) -> Rule:
    """Return how to pull back through this network: for a module, by the class it takes its computation from."""
    if not isinstance(network, nn.Module):
        return RULES.get(network if network in (torch.sigmoid, torch.tanh) else type(network), by_differentiation)
    kind: Any
    for kind in type(network).__mro__:
        if kind in RULES and computes_as(network, kind):
            return RULES[kind]
    return by_differentiation


def computes_as(network: nn.Module, kind: type) -> bool:
    """Say whether a module is of a kind and has its methods that compute the output, as they are, and no hooks."""
    names = ("forward", "__call__", "_conv_forward")
    if not isinstance(network, kind) or hooked(network) or any(name in vars(network) for name in names):
        return False
    return all(getattr(type(network), name, None) is getattr(kind, name, None) for name in names)


def path_of(network: Network, point: Tensor) -> str:
    """Say how derivatives of ``network`` are taken at ``point``: by ``rule``, ``torch.func`` or ``autograd``.

    Of a chain, the last of these that one of its parts needs.
    """
    found, whole = ["rule"], point
    for part in _parts(network):
        if not _is_batch(point, whole):
            return path_taken(network, whole)
        if rule_of(part) is by_differentiation:
            found.append(path_taken(part, point))
        with torch.no_grad():
            point = any_batch(part)(point.clone())
    return next(path for path in ("autograd", "torch.func", "rule") if path in found)


def _parts(network: Network) -> list[Network]:
    """Return what a chain is made of, innermost, or the network alone."""
    if rule_of(network) is not chain:
        return [network]
    parts = network.parts if isinstance(network, Chain) else cast(nn.Sequential, network)
    return [inner for part in parts for inner in _parts(part)]


def _works_in_place(network: Network) -> bool:
    if isinstance(network, Chain):
        return any(map(_works_in_place, network.parts))
    return works_in_place(network)


def chain(network: Chain | nn.Sequential, point: Tensor) -> tuple[Structure, PullBack]:
    """Pull back through the parts of a chain, last to first."""
    pull_backs: list[PullBack] = []
    whole = point
    for part in network.parts if isinstance(network, Chain) else network:
        if not _is_batch(point, whole):
            return by_differentiation(network, whole)
        point, pull = rule_of(part)(part, point)
        pull_backs.append(pull)

    def pull_all(cotangent: Structure) -> Tensor:
        for pull in reversed(pull_backs):
            cotangent = pull(cotangent)
        return cast(Tensor, cotangent)

    return point, pull_all


def _is_batch(between: Structure, point: Tensor) -> bool:
    """Whether what a part of a chain puts out is a tensor to which the cotangents of several samples can be pulled.

    Those of a shared start are more than its batch of one, which has to stay the first dimension.
    """
    return isinstance(between, Tensor) and (point.shape[0] != 1 or between.shape[:1] == point.shape[:1])


RULES[Chain] = RULES[nn.Sequential] = chain
