r"""Features by gradient flow: equations 1 and 2 and Algorithm 1 of the paper.

Given a network :math:`E` and a target output :math:`z`, the *feature* of :math:`z` is the input that a
gradient flow reaches when it minimises :math:`\mathcal L(r) = \tfrac12 \lVert E(r) - z \rVert^2`:

.. math::
    \frac{\partial r}{\partial t} = -\frac{\partial \mathcal L}{\partial r}
                                  = -J(r)^\top \bigl(E(r) - z\bigr) \qquad (1)

with :math:`J` the Jacobian of the network. One Euler step of it (equation 2) is one vector-Jacobian
product, so no loss and no second graph have to be built: every gradient *through* a feature (for
training the network, Algorithm 1) is ordinary automatic differentiation.

If all samples start at the same point, ``E(start)`` and the Jacobian there are the same for the whole
batch: the network is evaluated once, at a batch of one, and only the residuals are pulled back.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from .checks import (
    Network,
    Structure,
    batch_size,
    check_finite,
    check_independence,
    check_output,
    check_start,
    is_random,
    refuse_batch_statistics,
)
from .linearization import jacobian, rows, stable_step_size
from .pullback.rules import Chain, vjp
from .speed.recomputation import graph_leaves, recomputed

__all__ = ["DivergenceWarning", "align", "input_gradient"]

StepSize: TypeAlias = float | Sequence[float] | Tensor | Literal["auto"]


class DivergenceWarning(RuntimeWarning):
    """The step size is too large: the gradient flow moves away from its target."""


def align(
    network: Network,
    target: Structure,
    start: Tensor,
    *,
    steps: int = 1,
    step_size: StepSize = 1.0,
    squash: Callable[[Tensor], Tensor] | None = None,
    recompute: bool = False,
    check: bool = True,
) -> Tensor:
    r"""Return the feature of ``target``: the input that ``steps`` gradient steps from ``start`` lead to.

    .. math::
        r^t = r^{t-1} - \tau_t \, J(r^{t-1})^\top \bigl(E(r^{t-1}) - z\bigr), \qquad t = 1 \dots T \qquad (2)

    The distance is half the sum of squares over everything the network puts out for a sample, never
    averaged: a sample's feature depends on that sample alone, not on the batch size or its neighbours.

    The result is differentiable, to any order, with respect to whatever requires a gradient among the
    network's parameters, ``target``, ``start`` and ``step_size``. Under :class:`torch.no_grad` no
    graph is kept and the memory needed does not depend on ``steps``.

    Args:
        network: :math:`E`, any callable from a batch of inputs, shape ``(N, ...)``, to a tensor or a
            nested tuple, list or dict of floating-point tensors, each of shape ``(N, ...)``. It must
            treat the samples of a batch independently (batch normalisation only in eval mode).
        target: :math:`z`, of the same structure, shapes and dtype as the network's output.
        start: :math:`r^0`, floating point: one start per sample, shape ``(N, ...)``, or one shared by
            the whole batch, shape ``(1, ...)`` (or expanded from that), which is the faster of the two.
        steps: :math:`T`, at least 1.
        step_size: :math:`\tau`: a number, a 0-dimensional tensor, or one value per step (a sequence or
            a tensor of shape ``(steps,)``). A tensor may require a gradient. ``auto`` takes
            :math:`1 / \sigma^2` for every sample and step, :math:`\sigma` being the largest singular value of
            the Jacobian there: half of what the linearised flow is stable below, so it cannot diverge. That
            costs 16 vector-Jacobian and Jacobian-vector products before the first step and 4 before each
            other; no gradient goes through it.
        squash: a function applied to the iterate wherever it meets the network, and to the result, so
            that the network only ever sees values in its range: with ``torch.sigmoid`` the iterate
            lives in logit space and the feature in (0, 1). Same as aligning the composition
            ``network(squash(r))`` and squashing the end point. For a squashing after the last step
            only, apply it to the result instead.
        recompute: keep only the iterate of every step for the backward pass, which evaluates the network
            again, instead of all that the network computed: memory then grows with ``steps`` by one batch of
            inputs, not of activations. The result can be differentiated once only. No effect while
            ``torch.compile`` traces, which plans memory itself.
        check: look at values, not only at shapes: non-finite numbers, a step size that makes the flow
            diverge, a network that mixes the samples of a batch. Costs a reduction per step, one
            evaluation of the network at one or two samples, and on a GPU a synchronisation; turn it
            off inside a training loop. Off while ``torch.compile`` traces.

    Returns:
        :math:`\hat r`, shape ``(N, ...)``, dtype and device of ``start``.

    Raises:
        TypeError: ``start`` or the network's output is not a floating-point tensor, or the dtype of
            ``target`` is not that of the network's output.
        ValueError: ``steps`` or ``step_size`` out of range; structure or shapes of ``target`` do not
            fit the network's output; ``start`` fits neither one sample nor the batch; non-finite
            values in ``target`` or ``start``; a network that mixes the samples of a batch; ``recompute`` with
            a network that draws random numbers.
        FloatingPointError: the iterate became infinite or not a number.

    Warns:
        DivergenceWarning: a step is so large that it provably increases the linearised residual.

    Example:
        >>> encoder = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 16))
        >>> images = torch.rand(8, 1, 28, 28)
        >>> feature = align(encoder, encoder(images), torch.zeros(1, 1, 28, 28), steps=2)
        >>> feature.shape
        torch.Size([8, 1, 28, 28])
    """
    sizes = _step_sizes(step_size, steps)
    batch = batch_size(target)
    check_start(start, batch)
    if start.shape[0] > 1 and start.stride(0) == 0:
        start = start[:1]  # expanded: one start after all
    check = check and not torch.compiler.is_compiling()
    if check:
        check_finite("target", target)
        check_finite("start", start)
    random = False
    if isinstance(network, nn.Module):
        refuse_batch_statistics(network)
        random = is_random(network)
    if random:
        start = start.expand(batch, *start.shape[1:])  # a noise of its own for every sample

    inner = network if squash is None else Chain([squash, network])
    if check and batch > 1 and not random:
        check_independence(inner, start)

    def advance(iterate: Tensor, size: float | Tensor, target: Structure, step: int = 0) -> Tensor:
        gradient, residual = input_gradient(inner, target, iterate)
        if check and step:
            _check_step(step, size, gradient, residual)
        return iterate - size * gradient

    leaves: list[Tensor] | None = None
    if recompute and torch.is_grad_enabled() and not torch.compiler.is_compiling():
        if random:
            raise ValueError("recompute: the network draws random numbers, which would be others the second time")
        leaves = graph_leaves(inner(start[:1].clone()))

    iterate, direction = start, None
    for step, size in enumerate(sizes, start=1):
        if isinstance(size, str):
            size, direction = stable_step_size(inner, iterate, direction)
        if leaves is None:
            iterate = advance(iterate, size, target, step)
        else:
            iterate = recomputed(advance, iterate, size, target, leaves)
    feature = iterate if squash is None else squash(iterate)
    if check and not bool(torch.isfinite(feature).all()):
        raise FloatingPointError(f"the feature is not finite after step {len(sizes)}: {_smaller_step(size)}")
    return feature


def input_gradient(network: Network, target: Structure, point: Tensor) -> tuple[Tensor, Structure]:
    r"""Gradient of :math:`\tfrac12 \lVert E(r) - z \rVert^2` with respect to the input, and the residual.

    The right-hand side of equation 1 with its sign turned: :math:`J(r)^\top (E(r) - z)`.

    Args:
        network: :math:`E`, as for :func:`align`.
        target: :math:`z`, each tensor of shape ``(N, ...)``.
        point: :math:`r`, shape ``(N, ...)``, or ``(1, ...)`` for a point shared by the batch: the
            network is then evaluated once, and ``N`` residuals, or as many unit vectors as the network
            puts out numbers if these are fewer, are pulled back through that one evaluation.

    Returns:
        The gradient, shape ``(N, ...)``, and the residual :math:`E(r) - z`, of the target's structure.

    Raises:
        TypeError, ValueError: structure, shapes or dtypes of ``target`` do not fit the output.
    """
    output, pull_back = vjp(network, point)
    check_output(output, target, len(point))
    # Under autocast the output's dtype is the region's choice: the target follows it.
    residual = pytree.tree_map(lambda got, wanted: got - wanted.to(got.dtype), output, target)
    errors = rows(residual)
    if len(point) == 1 and errors.shape[1] < len(errors):
        # Fewer than the residuals are the units that residuals are made of.
        return (errors @ jacobian(output, pull_back).to(errors.dtype)).view(-1, *point.shape[1:]), residual
    return pull_back(residual), residual


def _step_sizes(step_size: StepSize, steps: int) -> list[Any]:
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise ValueError(f"steps: expected a whole number of at least 1, got {steps!r}")
    if isinstance(step_size, Tensor):
        if step_size.ndim == 0:
            return [step_size] * steps
        if step_size.shape == (steps,):
            return list(step_size.unbind())
        raise ValueError(
            f"step_size: expected a 0-dimensional tensor or one of shape ({steps},), one value per step, "
            f"got shape {tuple(step_size.shape)}"
        )
    if isinstance(step_size, str):
        if step_size != "auto":
            raise ValueError(f"step_size: expected numbers greater than 0 or auto, got {step_size!r}")
        return [step_size] * steps
    sizes = [step_size] * steps if isinstance(step_size, int | float) else list(step_size)
    if len(sizes) != steps:
        raise ValueError(f"step_size: expected {steps} values, one per step, got {len(sizes)}")
    for size in sizes:
        if not (math.isfinite(size) and size > 0):
            raise ValueError(f"step_size: expected finite numbers greater than 0, got {size!r}")
    return [float(size) for size in sizes]


@torch.no_grad()
def _check_step(step: int, size: float | Tensor, gradient: Tensor, residual: Structure) -> None:
    r"""Warn of a step that increases the residual.

    With :math:`\rho = \lVert J^\top e \rVert^2 / \lVert e \rVert^2` the linearised residual after the step
    is at least :math:`\lvert \tau \rho - 1 \rvert \, \lVert e \rVert` (Cauchy-Schwarz), so it grows if
    :math:`\tau \rho > 2`. No evaluation beyond the step's own is needed.
    """
    distance = rows(residual).double().square().sum(1)
    slope = gradient.double().flatten(1).square().sum(1)
    if not bool(torch.isfinite(slope).all()):
        first = int((~torch.isfinite(slope)).nonzero()[0])
        raise FloatingPointError(
            f"the gradient at step {step} is not finite, first in sample {first}: {_smaller_step(size)}"
        )
    sizes = torch.as_tensor(size, dtype=torch.double, device=slope.device).flatten()
    factor = sizes * slope / distance.clamp_min(torch.finfo(torch.double).tiny)
    grows = factor > 2.0 + 1e-6
    if bool(grows.any()):
        worst = int(factor.argmax())
        taken = float(sizes[worst] if len(sizes) > 1 else sizes[0])
        warnings.warn(
            f"the flow diverges at step {step}: the residual of {int(grows.sum())} of {len(grows)} samples grows, "
            f"most in sample {worst}, by a factor of at least {float(factor[worst]) - 1:.3g}; step_size is "
            f"{taken:.3g}, below {2 * taken / float(factor[worst]):.3g} would be stable there",
            DivergenceWarning,
            stacklevel=3,
        )


def _smaller_step(size: float | Tensor) -> str:
    largest = float(torch.as_tensor(size).max())
    return f"the flow diverged or the network put out non-finite values; try a step_size below {largest:.3g}"
