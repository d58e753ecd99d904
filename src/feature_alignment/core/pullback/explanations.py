"""Errors for operations that PyTorch cannot differentiate twice, which name the module and the operation."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, cast
from weakref import WeakSet

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from ..graphs import nodes
from ..structures import Network, Structure, hookable, standard
from .workarounds import twice_differentiable

__all__ = [
    "NotDifferentiableError",
    "Remembered",
    "begin_of",
    "check_dependence",
    "check_twice",
    "explained",
    "explaining",
]

_MISSING = re.compile(r"derivative for '?([^']+?)'? is not implemented")  # "aten::heaviside", or "'igamma: input'"


class Remembered:
    """Networks, as long as they live; those that cannot be remembered are always new."""

    def __init__(self) -> None:
        self.networks: WeakSet[Any] = WeakSet()

    def __contains__(self, network: Network) -> bool:
        with suppress(TypeError):  # not hashable
            return network in self.networks
        return False

    def add(self, network: Network) -> None:
        """Remember a network, if it can be."""
        with suppress(TypeError):
            self.networks.add(network)


# Networks whose graphs were searched already, without a find: of their outputs, and of their gradients.
_differentiable, _differentiable_twice = Remembered(), Remembered()


class NotDifferentiableError(RuntimeError):
    """PyTorch cannot differentiate the network, or not twice; the message names the module and the operation."""


class _Explained(torch.autograd.Function):
    """The identity, whose backward pass raises an error that explains the missing derivative."""

    generate_vmap_rule = True

    @staticmethod
    def forward(gradient: Tensor, network: Network, point: Tensor) -> Tensor:
        return gradient.view_as(gradient)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, ctx.network, ctx.point = inputs

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> Any:
        raise NotDifferentiableError(_why(ctx.network, ctx.point))


def explaining(gradient: Tensor, network: Network, point: Tensor) -> Tensor:
    """Have the derivative of ``gradient`` raise an error by name, if PyTorch has none."""
    if not gradient.requires_grad or network in _differentiable_twice:
        return gradient
    if any("NotImplemented" in node.name() for node in nodes(gradient)):
        return cast(Tensor, _Explained.apply(gradient, network, point.detach()))
    _differentiable_twice.add(network)
    return gradient


@contextmanager
def explained(network: Network, point: Tensor) -> Iterator[None]:
    """Raise NotDifferentiableError, by name, instead of PyTorch's error for a missing derivative."""
    try:
        yield
    except NotDifferentiableError:
        raise
    except RuntimeError as error:
        if _MISSING.search(str(error)):
            raise NotDifferentiableError(_why(network, point)) from None
        raise


def begin_of(given: Tensor) -> Any:
    """Return the node of the graph where an input enters a network, before the network overwrites the input."""
    return None if torch.compiler.is_compiling() else given.grad_fn


def check_dependence(output: Structure, network: Network, point: Tensor, begin: Any) -> None:
    """Raise NotDifferentiableError if no graph leads from the input to the output, or what PyTorch takes for constant.

    Args:
        output: of the network.
        network: remembered if nothing is wrong with it.
        point: its input.
        begin: by :func:`begin_of`.
    """
    if torch.compiler.is_compiling() or network in _differentiable:
        return
    if begin not in set(nodes(output)):
        raise NotDifferentiableError(
            f"{_kind(network)}: PyTorch has no derivative of its output with respect to its input; look for no_grad(), "
            "detach() or numpy inside, and for parts that are not differentiable"
        )
    if any(_is_silent(node) for node in nodes(output)):
        raise NotDifferentiableError(_why(network, point))
    _differentiable.add(network)


def _is_silent(node: Any) -> bool:
    """Say whether this is an operation without an autograd kernel, whose derivative PyTorch takes for zero."""
    return "WarnNotImplemented" in node.name()


def _why(network: Network, point: Tensor) -> str:
    where, order, operation = _kind(network), "second ", "an operation in it"
    calls: list[tuple[str, Network, Any]] = [*_calls(network, point), ("", network, ((point,), {}))]
    for name, module, arguments in calls:
        missing = _missing(module, arguments)
        if missing is not None:
            order, operation = missing
            where = f"{_kind(module)} at '{name}'" if name else _kind(module)
            break
    if not order:
        return f"{where}: PyTorch has no derivative of {operation}; replace it by operations that have one"
    return (
        f"{where}: PyTorch has no second derivative of {operation}, which training through a feature and Gauss-Newton "
        "need; replace it by operations that can be differentiated twice, or stay with first derivatives "
        "(torch.no_grad() around align; invert with method='lbfgs')"
    )


def _kind(network: Network) -> str:
    return type(network).__name__ if isinstance(network, nn.Module) else "network"


def _calls(network: Network, point: Tensor) -> list[tuple[str, nn.Module, Any]]:
    """Return the modules that run in an evaluation, the innermost first, with their arguments."""
    calls: list[tuple[str, nn.Module, Any]] = []
    if not isinstance(network, nn.Module):
        return calls

    def hook(name: str) -> Callable[..., None]:
        return lambda module, args, kwargs, output: calls.append((name, module, (args, kwargs)))

    handles = [module.register_forward_hook(hook(name), with_kwargs=True) for name, module in hookable(network)]
    try:
        with twice_differentiable(), torch.no_grad():
            network(point.clone())
    finally:
        for handle in handles:
            handle.remove()
    return calls


def _missing(network: Callable[..., Any], arguments: tuple[tuple[Any, ...], dict[str, Any]]) -> tuple[str, str] | None:
    """Return what has no derivative in a call, and which: ``""`` for the first, ``"second "``."""
    given = pytree.tree_map(_fresh, arguments)
    inputs = [leaf for leaf in pytree.tree_leaves(given) if _differentiable_leaf(leaf)]
    order = ""
    with torch.enable_grad(), twice_differentiable():
        args, kwargs = pytree.tree_map(lambda leaf: leaf.clone() if isinstance(leaf, Tensor) else leaf, given)
        outputs = list(filter(_differentiable_leaf, pytree.tree_leaves(standard(network(*args, **kwargs)))))
        if any(map(_is_silent, nodes(outputs))):
            return order, "an operation without an autograd kernel (quantised, or a custom one)"
        if not inputs or not outputs:
            return None
        cotangents = [torch.ones_like(part).requires_grad_() for part in outputs]
        try:
            found = torch.autograd.grad(outputs, inputs, cotangents, create_graph=True, allow_unused=True)
            order = "second "
            total = sum(gradient.sum() for gradient in found if gradient is not None and gradient.requires_grad)
            if isinstance(total, Tensor):
                torch.autograd.grad(total, cotangents, allow_unused=True)
        except RuntimeError as error:
            missing = _MISSING.search(str(error))
            return (order, missing.group(1)) if missing else None
    return None


def _fresh(leaf: Any) -> Any:
    """Return a tensor to differentiate for."""
    if isinstance(leaf, Tensor) and leaf.is_floating_point():
        return leaf.detach().clone().requires_grad_()
    return leaf


def _differentiable_leaf(leaf: Any) -> bool:
    return isinstance(leaf, Tensor) and leaf.requires_grad and leaf.is_floating_point()


def check_twice(pulled: Tensor) -> None:
    """Raise NotDifferentiableError where PyTorch would return zeros: where a node of the graph stands for an error."""
    if any("autograd::Error" in node.name() for node in nodes(pulled)):
        raise NotDifferentiableError(
            "network: no second derivative, and so no product with its Jacobian: a backward in it is marked "
            "once_differentiable; write that backward with differentiable operations and remove the mark"
        )
