r"""A network linearised at a point: Jacobian, largest singular value, and a feature's first step as an affine map."""

from __future__ import annotations

import math
from typing import Literal, cast

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from .pullback import PullBack, explained, transposed, vjp
from .structures import Network, Structure, from_rows, rows, tensors, wide

__all__ = ["affine_map", "jacobian", "largest_singular_value", "rows", "stable_step_size"]


def affine_map(
    network: Network, start: Tensor, step_size: float | Tensor | Literal["auto"] = 1.0
) -> tuple[Tensor, Tensor]:
    r"""The one-step feature from a shared start is affine in the target; return that map.

    .. math::
        \hat r = r^0 - \tau J(r^0)^\top \bigl(E(r^0) - z\bigr) = A z + b, \qquad
        A = \tau J(r^0)^\top, \quad b = r^0 - A \, E(r^0) \qquad (2)

    Once derived, it decodes a batch by a single matrix product, without evaluating the network.

    Args:
        network: :math:`E`, as for :func:`align`; what it puts out for the start, flattened and
            concatenated, has ``K`` numbers.
        start: :math:`r^0`, shape ``(1, ...)``, of ``D`` numbers.
        step_size: :math:`\tau`, a number, a 0-dimensional tensor, or ``auto``, see :func:`align`.

    Returns:
        :math:`A^\top`, shape ``(K, D)``, and :math:`b`, shape ``(D,)``: the feature of targets ``z``, shape
        ``(N, K)``, is ``z @ A.T + b``, flattened.

    Raises:
        ValueError: ``start`` is not one sample; a ``step_size`` of an unknown name, or a number (a tensor
            is taken as it is) not finite and greater than 0.
    """
    if start.ndim == 0 or len(start) != 1:
        raise ValueError(f"start: expected shape (1, ...), shared by all features, got {tuple(start.shape)}")
    output, pull_back = vjp(network, start)
    if isinstance(step_size, str):
        if step_size != "auto":
            raise ValueError(f"step_size: expected a number greater than 0 or auto, got {step_size!r}")
        step_size = stable_step_size(network, start)[0].view(())
    elif not isinstance(step_size, Tensor) and not 0 < step_size < math.inf:
        raise ValueError(f"step_size: expected a finite number greater than 0, got {step_size!r}")
    matrix = step_size * jacobian(output, pull_back)
    return matrix, start.flatten() - (rows(output).to(matrix.dtype) @ matrix).flatten()


def jacobian(output: Structure, pull_back: PullBack) -> Tensor:
    """Return the Jacobian whose transpose ``pull_back`` applies, with one row per output of the network.

    Args:
        output: of the network for a batch of one, ``K`` numbers in all.
        pull_back: maps structures like ``output`` to inputs of ``D`` numbers, as returned by :func:`vjp`.

    Returns:
        Shape ``(K, D)``.
    """
    first, *others = tensors(output)
    units = torch.eye(first.numel() + sum(each.numel() for each in others), dtype=first.dtype, device=first.device)
    return pull_back(from_rows(units, output)).flatten(1)


def largest_singular_value(
    network: Network, point: Tensor, iterations: int = 20, direction: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    r"""Largest singular value of the Jacobian at each point, by power iteration on :math:`J^\top J`.

    The estimate approaches the value from below, and the flow of equation 2 is stable, where the network is
    linear, for step sizes below :math:`2 / \sigma^2`.

    Args:
        network: :math:`E`, as for :func:`align`.
        point: inputs at which the network is linearised, shape ``(N, ...)``.
        iterations: number of products with :math:`J` and with :math:`J^\top`, at least 1.
        direction: initial vector, of the shape of ``point``, such as the one returned by an earlier call; by
            default a fixed pseudo-random one.

    Returns:
        The largest singular value, shape ``(N,)``, and its right singular vector, of the shape of ``point``,
        both without a graph.

    Raises:
        ValueError: ``iterations`` below 1.
    """
    if iterations < 1:
        raise ValueError(f"iterations: expected at least 1, got {iterations}")
    point = point.detach()
    if direction is None:
        direction = _scattered(point[:1])
    direction = direction.expand_as(point)
    if point.shape[0] == 0:
        return point.new_zeros(0), direction
    with torch.no_grad():
        output, pull_back = vjp(network, point)
        with explained(network, point):
            push = transposed(pull_back, output)
        square = point.new_zeros(point.shape[0])
        for _ in range(iterations):
            with explained(network, point):
                pushed = push(cast(Tensor, _normalised(direction, _norms(direction))))
            length = wide(rows(pushed)).norm(dim=1)
            # Of unit length between the two: in half precision their product overflows, and vanishes.
            direction = pull_back(_normalised(pushed, length)).detach()
            square = length * _norms(direction)
    return square.sqrt().to(point.dtype), direction


def stable_step_size(network: Network, point: Tensor, direction: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return the reciprocal of the squared largest singular value, and the direction to continue from."""
    sigma, direction = largest_singular_value(network, point, 8 if direction is None else 2, direction)
    # If the output does not depend on the input, no step is too large.
    square = wide(sigma).square().clamp_min(1 / torch.finfo(sigma.dtype).max)
    return square.reciprocal().to(sigma.dtype).view(-1, *[1] * (point.ndim - 1)), direction


def _scattered(like: Tensor) -> Tensor:
    """Return fixed pseudo-random numbers in [-1, 1), computed on the device by operations that can be compiled."""
    bits = torch.arange(1, like.numel() + 1, device=like.device) * 2654435761 % 2**32  # Knuth's multiplicative hash,
    bits = (bits ^ bits >> 16) * 73244475 % 2**32  # twice
    return ((bits ^ bits >> 16) >> 8).float().div(2**23).sub(1).view_as(like).to(like.dtype)


def _norms(points: Tensor) -> Tensor:
    """Return the norm of each sample, shape ``(N,)``, in float32 if the points are in half precision."""
    norms: Tensor = wide(points).flatten(1).norm(dim=1)
    return norms


def _normalised(structure: Structure, norms: Tensor) -> Structure:
    """Divide each sample by its norm, if that is not 0."""
    factors = norms.clamp_min(torch.finfo(norms.dtype).tiny)

    def divided(part: Tensor | None) -> Tensor | None:
        return None if part is None else (wide(part) / factors.view(-1, *[1] * (part.ndim - 1))).to(part.dtype)

    return pytree.tree_map(divided, structure)
