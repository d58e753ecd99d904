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

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from .checks import (
    batch_size,
    check_finite,
    check_independence,
    check_output,
    check_start,
    is_random,
    refuse_batch_statistics,
    refuse_inference,
    refuse_quantised,
)
from .divergence import DivergenceWarning, check_feature, check_step
from .graphs import graph_leaves
from .linearization import jacobian
from .pullback import Chain, any_batch, vjp
from .speed.products import units_are_fewer
from .speed.recomputation import Gradient, recomputed
from .starts import as_shared
from .step_sizes import StepSize, check_positive, limited, per_step, step_rule
from .structures import Network, Structure, rows, standard

__all__ = ["DivergenceWarning", "align", "input_gradient"]


def align(
    network: Network,
    target: Structure,
    start: Tensor | Callable[[Structure], Tensor],
    *,
    steps: int = 1,
    step_size: StepSize = 1.0,
    max_step: float | Sequence[float] | Tensor | None = None,
    squash: Callable[[Tensor], Tensor] | None = None,
    recompute: bool = False,
    check: bool = True,
) -> Tensor:
    r"""Return the feature of ``target``: the input that ``steps`` gradient steps from ``start`` lead to.

    .. math::
        r^t = r^{t-1} - \tau_t \, J(r^{t-1})^\top \bigl(E(r^{t-1}) - z\bigr), \qquad t = 1 \dots T \qquad (2)

    The distance is half the sum of squares over all outputs of a sample, not averaged: a sample's feature is
    independent of the batch size and of the other samples.

    The result is differentiable, to any order, with respect to whatever requires a gradient among the
    network's parameters, ``target``, ``start`` and ``step_size``. Under :class:`torch.no_grad` no
    graph is kept and the memory needed does not depend on ``steps``.

    Args:
        network: :math:`E`, any callable from a batch of inputs, shape ``(N, ...)``, to a tensor or a
            nested tuple, list, dict or dataclass of floating-point tensors, each of shape ``(N, ...)``, and
            ``None``. It must treat the samples of a batch independently (batch normalisation only in eval
            mode). :func:`~feature_alignment.select` gives the outputs of layers inside it.
        target: :math:`z`, of the same structure, shapes and dtype as the network's output.
        start: :math:`r^0`, floating point: one start per sample, shape ``(N, ...)``, or one shared by
            the whole batch, shape ``(1, ...)`` (or expanded from that), which is the faster of the two. Or a
            callable from the target to starts, such as :class:`~feature_alignment.LayeredStart`.
        steps: :math:`T`; with 0 the feature is the start, squashed.
        step_size: :math:`\tau`: a number, a 0-dimensional tensor, or one value per step (a sequence or
            a tensor of shape ``(steps,)``). A tensor may require a gradient. ``auto`` takes
            :math:`1 / \sigma^2` for every sample and step, :math:`\sigma` being the largest singular value of
            the Jacobian there: half of the stability limit of the linearised flow, which therefore cannot diverge.
            That costs 16 vector-Jacobian and Jacobian-vector products before the first step and 4 before each
            further one; no gradient is propagated through it.
        max_step: :math:`\rho_t`, bound on the Euclidean norm of a sample's step: a longer step is scaled down to
            it, which limits the feature's error for targets far from those of training. A number or tensor, one for
            all steps or one per step; none for no bound.
        squash: a function applied to the iterate before every evaluation of the network, and to the result, so
            that the network is evaluated only in the function's range: with ``torch.sigmoid`` the iterate
            is in logit space and the feature in (0, 1). This is equivalent to aligning the composition
            ``network(squash(r))`` and squashing the end point. To squash after the last step only, apply the
            function to the result instead.
        recompute: store only the iterates for the backward pass and recompute the activations of each step: a
            further step then needs memory for one batch of inputs, not of activations. The result can be
            differentiated only once. No effect under ``torch.func`` and while ``torch.compile`` traces, which plans
            memory itself.
        check: check values, not only shapes: non-finite numbers, a step size that makes the flow diverge, a
            network that mixes the samples of a batch or is random. Costs a reduction per step, three
            evaluations of the network at one to three samples, and on a GPU a synchronisation; turn it off
            inside a training loop. Off while ``torch.compile`` traces.

    Returns:
        :math:`\hat r`, shape ``(N, ...)``, dtype and device of ``start``.

    Raises:
        TypeError: ``start`` or the network's output is not a floating-point tensor, or the dtype of
            ``target`` is not that of the network's output.
        ValueError: ``steps``, ``step_size`` or ``max_step`` out of range; structure or shapes of ``target`` do not
            fit the network's output; ``start`` fits neither one sample nor the batch; non-finite
            values in ``target`` or ``start``; a network that mixes the samples of a batch, is quantised, or
            random but for dropout layers in training mode; ``recompute`` with the latter.
        FloatingPointError: the iterate became infinite or not a number.
        NotDifferentiableError: PyTorch has no derivative of the network; where it has no second one, the error
            comes from the backward pass through the feature. It names the module and the operation.

    Warns:
        DivergenceWarning: a step is so large that it provably increases the linearised residual.

    Example:
        >>> encoder = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 16))
        >>> images = torch.rand(8, 1, 28, 28)
        >>> feature = align(encoder, encoder(images), torch.zeros(1, 1, 28, 28), steps=2)
        >>> feature.shape
        torch.Size([8, 1, 28, 28])
    """
    rule, bounds = step_rule(step_size, steps), None if max_step is None else per_step("max_step", max_step, steps)
    target = standard(target)
    start = as_shared(start if isinstance(start, Tensor) or not callable(start) else start(target))
    check = check and not torch.compiler.is_compiling()
    check = check and torch._C._functorch.peek_interpreter_stack() is None  # torch.func hides the numbers
    if check:
        check_positive("step_size", step_size)
        check_positive("max_step", max_step)
    _check_arguments(network, target, start, check)
    inner = any_batch(network) if squash is None else Chain([squash, any_batch(network)])
    if _draws_masks(network):
        start = start.expand(batch_size(target), *start.shape[1:])  # each sample has random numbers of its own
    elif check:
        check_independence(inner, start)

    gradient_of = _keeping_inputs(network, inner, start) if recompute else input_gradient
    iterate = start
    for step in range(1, steps + 1):
        size = rule.size(inner, iterate, step)
        gradient, residual = gradient_of(inner, target, iterate)
        if bounds is not None:
            size = limited(size, gradient, bounds[step - 1])
        if check:
            check_step(step, size, gradient, residual)
        iterate = iterate - size * gradient  # equation 2

    if steps == 0 and squash is not None:
        iterate = iterate.clone()  # the caller's start, if the function works in place
    feature = iterate if squash is None else squash(iterate)
    if steps == 0:
        return feature.expand(batch_size(target), *feature.shape[1:])
    if check:
        check_feature(feature, steps, size)
    return feature


def input_gradient(network: Network, target: Structure, point: Tensor) -> tuple[Tensor, Structure]:
    r"""Gradient of :math:`\tfrac12 \lVert E(r) - z \rVert^2` with respect to the input, and the residual.

    The right-hand side of equation 1 with its sign turned: :math:`J(r)^\top (E(r) - z)`.

    Args:
        network: :math:`E`, as for :func:`align`.
        target: :math:`z`, each tensor of shape ``(N, ...)``.
        point: :math:`r`, shape ``(N, ...)``, or ``(1, ...)`` for a point shared by the batch: the
            network is then evaluated once, and ``N`` residuals, or one unit vector per output if these are
            fewer, are pulled back through that one evaluation.

    Returns:
        The gradient, shape ``(N, ...)``, and the residual :math:`E(r) - z`, of the target's structure.

    Raises:
        TypeError, ValueError: structure, shapes or dtypes of ``target`` do not fit the output.
    """
    output, pull_back = vjp(network, point)
    target = standard(target)
    check_output(output, target, point.shape[0])
    residual = pytree.tree_map(_difference, output, target)
    errors = rows(residual)
    if units_are_fewer(errors, point.shape[0]):
        gradient = errors @ jacobian(output, pull_back).to(errors.dtype)
        return gradient.to(point.dtype).view(-1, *point.shape[1:]), residual
    return pull_back(residual), residual


def _difference(got: Tensor | None, wanted: Tensor | None) -> Tensor | None:
    # Under autocast the output's dtype is the region's choice: the target follows it.
    return None if got is None or wanted is None else got - wanted.to(got.dtype)


def _check_arguments(network: Network, target: Structure, start: Tensor, values: bool) -> None:
    check_start(start, batch_size(target))
    if values:
        check_finite("target", target)
        check_finite("start", start)
    if isinstance(network, nn.Module):
        refuse_batch_statistics(network)
        refuse_quantised(network)
        refuse_inference(network)


def _draws_masks(network: Network) -> bool:
    return isinstance(network, nn.Module) and is_random(network)


def _keeping_inputs(network: Network, inner: Network, start: Tensor) -> Gradient:
    if not torch.is_grad_enabled() or torch.compiler.is_compiling():
        return input_gradient
    if torch._C._functorch.peek_interpreter_stack() is not None:
        return input_gradient  # torch.func keeps its own graphs
    if _draws_masks(network):
        raise ValueError("recompute: the network draws random numbers, which would be others the second time")
    leaves = {id(leaf): leaf for leaf in graph_leaves(vjp(inner, start[:1])[0])}
    # Those of a module that only other inputs reach, too.
    leaves |= {id(each): each for each in _parameters(network) if each.requires_grad}
    return recomputed(input_gradient, list(leaves.values()))


def _parameters(network: Network) -> Iterator[nn.Parameter]:
    if isinstance(network, nn.Module):
        yield from network.parameters()
    for part in network.parts if isinstance(network, Chain) else ():
        yield from _parameters(part)
