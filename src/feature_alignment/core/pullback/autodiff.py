"""Vector-Jacobian products by automatic differentiation, for networks without a rule: two paths.

:func:`torch.func.vjp` first: it pulls any number of cotangents back through one evaluation, composes with other
transforms and compiles. It refuses some networks (``torch.utils.checkpoint`` and other saved-tensor hooks, autograd
functions in the old style, in-place changes of buffers ...). These are differentiated by :func:`torch.autograd.grad`,
which keeps a graph of its own. Which one it is, is found by trying.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias, cast

import torch
from torch import Tensor, func, nn
from torch.utils import _pytree as pytree

from ..checks import check_floating
from ..graphs import graph_leaves
from ..structures import Network, Structure, standard, tensors
from .explanations import Remembered, begin_of, check_dependence, check_twice, explained, explaining
from .exported import any_batch
from .workarounds import let_checkpoints_repeat_it, outside_inference_mode, twice_differentiable

__all__ = [
    "PullBack",
    "attempt",
    "by_differentiation",
    "differentiated",
    "leaving_its_input",
    "path_taken",
    "transposed",
    "works_in_place",
]

#: From cotangents of a network's output, shape ``(N, ...)``, to those of its input.
PullBack: TypeAlias = Callable[[Structure], Tensor]

# Networks that torch.func has refused: not tried again.
_refused = Remembered()


def by_differentiation(network: Network, point: Tensor) -> tuple[Structure, PullBack]:
    """Return what :func:`vjp` does, for any network."""
    if torch.compiler.is_compiling():
        return _by_func(network, point)
    if point.is_inference():
        point = outside_inference_mode(point.clone)  # what is kept for a derivative must be an ordinary tensor
    found = None if network in _refused else attempt(lambda: _by_func(network, point))
    if found is None:
        found = _by_autograd(network, point)
        if len(point):  # of no samples torch.func refuses what it does for others
            _refused.add(network)
    return cast(tuple[Structure, PullBack], found)


def attempt(function: Callable[[], Any]) -> Any:
    """Return None where torch.func refuses, or the network fails: an error of its own comes again by autograd."""
    try:
        return function()
    except torch.OutOfMemoryError:
        raise
    except Exception:
        return None


def path_taken(network: Network, point: Tensor) -> str:
    """Return the path taken by :func:`by_differentiation`: ``torch.func`` or ``autograd``."""
    output, pull_back = by_differentiation(network, point)
    pull_back(pytree.tree_map(lambda leaf: None if leaf is None else torch.zeros_like(leaf), output))
    return "autograd" if network in _refused else "torch.func"


# --- torch.func ---------------------------------------------------------------------------------------


def _by_func(network: Network, point: Tensor) -> tuple[Structure, PullBack]:
    inner = any_batch(network)

    def floating(x: Tensor) -> Structure:
        given = x.clone()  # it may write to its input
        begin, output = begin_of(given), standard(inner(given))
        check_floating("the network's output", output)
        check_dependence(output, network, point, begin)
        return _hide_none(output)

    with twice_differentiable():
        output, pull_back = differentiated(floating, point)

    def pull(cotangent: Structure) -> Tensor:
        cotangent = _hide_none(cotangent)
        if point.shape[0] > 1 or all(leaf.shape[0] == 1 for leaf in pytree.tree_leaves(cotangent)):
            return pull_back(cotangent)
        if isinstance(count := pytree.tree_leaves(cotangent)[0].shape[0], torch.SymInt):
            # While a graph for any batch is traced; vmap would fix the batch.
            return differentiated(floating, point.expand(count, *point.shape[1:]))[1](cotangent)
        # Each cotangent becomes a batch of one.
        singles = pytree.tree_map(lambda leaf: leaf.unsqueeze(1), cotangent)
        return func.vmap(lambda single: pull_back(single).squeeze(0))(singles)

    def pull_or_fall_back(cotangent: Structure) -> Tensor:
        if torch.compiler.is_compiling():
            return pull(cotangent)
        pulled = attempt(lambda: explaining(pull(cotangent), network, point))
        if pulled is None:  # such as for an operation that vmap has no rule for
            pulled = _by_autograd(network, point)[1](cotangent)
            if len(point):
                _refused.add(network)
        return cast(Tensor, pulled)

    return _show_none(output), pull_or_fall_back


def differentiated(function: Callable[[Structure], Structure], point: Structure) -> tuple[Structure, PullBack]:
    """Return :func:`torch.func.vjp` of a function of one argument, without the tuple around the cotangent."""
    output, pull_back = outside_inference_mode(lambda: func.vjp(function, point)[:2])

    def pull(cotangent: Structure) -> Tensor:
        return cast(Tensor, outside_inference_mode(lambda: pull_back(cotangent)[0]))

    return output, pull


def works_in_place(network: Network) -> bool:
    """Whether a module has layers that overwrite their input."""
    return isinstance(network, nn.Module) and any(getattr(each, "inplace", False) for each in network.modules())


def leaving_its_input(network: Network) -> Network:
    """Return the same network, working on a copy if it works in place: its input is needed for derivatives."""
    return (lambda x: network(x.clone())) if works_in_place(network) else network


class _Absent:
    """Takes the place of ``None``, which :mod:`torch.func` refuses, and has no leaves."""


pytree.register_pytree_node(_Absent, lambda _: ([], None), lambda _, __: _Absent())


def _hide_none(structure: Structure) -> Structure:
    if all(leaf is not None for leaf in pytree.tree_leaves(structure)):
        return structure
    return pytree.tree_map(lambda leaf: _Absent() if leaf is None else leaf, structure)


def _show_none(structure: Structure) -> Structure:
    def is_absent(node: Any) -> bool:
        return isinstance(node, _Absent)

    if torch.compiler.is_compiling():
        return structure
    return pytree.tree_map(lambda leaf: None if is_absent(leaf) else leaf, structure, is_leaf=is_absent)


# --- plain autograd -----------------------------------------------------------------------------------


def _by_autograd(network: Network, point: Tensor) -> tuple[Structure, PullBack]:
    let_checkpoints_repeat_it()
    return cast(tuple[Structure, PullBack], outside_inference_mode(lambda: _graph(network, point)))


def _graph(network: Network, point: Tensor) -> tuple[Structure, PullBack]:
    grad_mode = torch.is_grad_enabled()
    with torch.enable_grad(), twice_differentiable():
        ours = not (grad_mode and point.requires_grad)
        x = point.detach().requires_grad_() if ours else point.view_as(point)
        given = x.clone()  # it may work in place
        begin, output = begin_of(given), standard(any_batch(network)(given))
    check_floating("the network's output", output)
    check_dependence(output, network, point, begin)
    parts = tensors(output)
    # Without anything to differentiate for but x, which is ours, nobody needs the graph afterwards.
    outlives = grad_mode and not (ours and all(leaf is x for leaf in graph_leaves(parts)))

    def pull(cotangent: Structure) -> Tensor:
        errors = tensors(cotangent)
        if len(x) == 1 < len(errors[0]):  # correct, if not as fast as one evaluation
            expanded = point.expand(len(errors[0]), *point.shape[1:])
            return _graph(network, expanded)[1](cotangent)
        create = torch.is_grad_enabled() and (outlives or any(error.requires_grad for error in errors))
        connected = [(part, error) for part, error in zip(parts, errors, strict=True) if part.requires_grad]
        with twice_differentiable(), explained(network, point):
            (gradient,) = torch.autograd.grad(
                [part for part, _ in connected],
                x,
                [error for _, error in connected],
                retain_graph=True,
                create_graph=create,
                allow_unused=True,
            )
        gradient = torch.zeros_like(x) if gradient is None else gradient
        return explaining(gradient, network, point) if create else gradient

    def pull_outside(cotangent: Structure) -> Tensor:
        return cast(Tensor, outside_inference_mode(lambda: pull(cotangent)))

    return output if outlives else pytree.tree_map(_detached, output), pull_outside


def _detached(leaf: Tensor | None) -> Tensor | None:
    return None if leaf is None else leaf.detach()


# --- the Jacobian, from its transpose -----------------------------------------------------------------


def transposed(pull_back: PullBack, like: Structure) -> Callable[[Tensor], Structure]:
    r"""Return :math:`v \mapsto J v`: the pull-back of the pull-back, which is linear.

    Args:
        pull_back: :math:`e \mapsto J^\top e`, as :func:`vjp` has it, of a network at ``N`` points.
        like: the network's output there, or anything of its structure, shapes and dtypes.

    Returns:
        From tensors like the points to structures like the output, without a graph.

    Raises:
        NotDifferentiableError: the network has an operation without a second derivative.
    """
    zeros = pytree.tree_map(lambda leaf: None if leaf is None else torch.zeros_like(leaf), like)
    if torch.compiler.is_compiling() or torch._C._functorch.peek_interpreter_stack() is not None:
        return differentiated(pull_back, zeros)[1]
    with torch.inference_mode(False), torch.enable_grad():
        zeros = pytree.tree_map(lambda leaf: None if leaf is None else leaf.clone().requires_grad_(), zeros)
        pulled = pull_back(zeros)
    check_twice(pulled)
    parts = tensors(zeros)

    def push(vector: Tensor) -> Structure:
        if not pulled.requires_grad:  # the output does not depend on the input
            return pytree.tree_map(_detached, zeros)
        with torch.inference_mode(False):
            vector = vector.clone() if vector.is_inference() else vector
            pushed = torch.autograd.grad(
                pulled, parts, vector, retain_graph=True, allow_unused=True, materialize_grads=True
            )
        found = iter(pushed)
        return pytree.tree_map(lambda leaf: None if leaf is None else next(found), zeros)

    return push
