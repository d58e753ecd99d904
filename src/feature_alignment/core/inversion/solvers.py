r"""The pre-image of a target under any given network, without training it.

Looked for is an input :math:`r` with :math:`E(r) = z`, by descending
:math:`\mathcal L(r) = \tfrac12 \lVert e(r) \rVert^2`, :math:`e(r) = E(r) - z`. The gradient flow of equation 1 gets
there if the network was trained to be aligned; on others it stalls along the small singular values of the Jacobian
:math:`J`. Beside it stand three methods that do not, each from products with :math:`J` and :math:`J^\top` alone:

``gauss_newton``
    Damped Gauss-Newton (Deuflhard, *Newton Methods for Nonlinear Problems*, 2004, §4): the shortest :math:`s` with
    :math:`J s = -e` is :math:`s = J^\top w`, :math:`J J^\top w = -e`, a system of the size of the output, solved by
    conjugate gradients, in the form that keeps the rest smallest and so serves where :math:`J J^\top` is singular
    (Hestenes and Stiefel, *J. Res. NBS* 49, 1952, §10), until half of :math:`e` is left; the step is halved until the
    error falls.
``anderson``
    The gradient flow accelerated by Anderson's mixing (D. G. Anderson, *J. ACM* 12, 1965): of the latest steps and of
    what they did to the error, the combination that makes the linearised error smallest is taken, and what it leaves,
    :math:`\hat e`, is pulled back, :math:`-\beta J^\top \hat e` with
    :math:`\beta = \lVert \hat e \rVert^2 / \lVert J^\top \hat e \rVert^2`. It gives up at the first step that does
    not lower the error.
``lbfgs``
    The flow preconditioned by a quasi-Newton matrix (Liu and Nocedal, *Math. Programming* 45, 1989).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from ..checks import (
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
from ..linearization import largest_singular_value, rows
from ..pullback.rules import differentiated, leaving_its_input

__all__ = ["Inversion", "invert"]

Method: TypeAlias = Literal["auto", "gauss_newton", "anderson", "lbfgs", "gradient"]

SUFFICIENT = 1e-4  # of the decrease that the slope promises (Armijo's rule)
SHORTEST = 1e-3  # of a full step, where a line search gives up


@dataclass(frozen=True)
class Inversion:
    r"""What :func:`invert` found, for each of ``N`` samples.

    Attributes:
        input: :math:`r`, shape ``(N, ...)``, the best point seen.
        residual: :math:`\lVert E(r) - z \rVert / \lVert z \rVert` there, shape ``(N,)`` (not divided where
            :math:`z = 0`).
        evaluations: of the network: a forward pass, a vector-Jacobian or a Jacobian-vector product is one each;
            int64, shape ``(N,)``.
        converged: whether ``residual`` is at most ``tol``, bool, shape ``(N,)``.
    """

    input: Tensor
    residual: Tensor
    evaluations: Tensor
    converged: Tensor


@torch.no_grad()
def invert(
    network: Network,
    target: Structure,
    start: Tensor,
    tol: float = 1e-3,
    max_evaluations: int = 1000,
    *,
    method: Method = "auto",
) -> Inversion:
    r"""Find an input that a given network maps to ``target``: no training, nothing known of the network.

    Inputs are not bounded; for images in (0, 1), invert ``lambda r: network(r.sigmoid())`` and squash what is found.
    Many inputs have the same output: found is one near ``start``. Every sample is solved by itself: its result does not
    depend on its neighbours but for rounding. Beforehand the network is checked by two forward passes, not counted.

    Args:
        network: :math:`E`, as for :func:`~feature_alignment.align`; it may not draw random numbers.
        target: :math:`z`, of the structure, shapes and dtypes of the network's output for ``N`` samples.
        start: shape ``(N, ...)``, or ``(1, ...)`` for all.
        tol: the relative residual :math:`\lVert E(r) - z \rVert / \lVert z \rVert` to reach, greater than 0.
        max_evaluations: the most network evaluations to spend on a sample, at least 1.
        method: ``auto`` begins with ``anderson``, goes on with ``lbfgs`` for the samples where a step of it fails to
            lower the error, and with ``gauss_newton`` for those where that finds no descent. ``gradient`` is the plain
            flow with the step :math:`1 / \sigma^2`, by power iteration, which counts.

    Returns:
        An :class:`Inversion`. Samples that were not converged have the best point seen: no error is raised.

    Raises:
        TypeError, ValueError: as for :func:`~feature_alignment.align`; ``tol``, ``max_evaluations`` or ``method``
            out of range.

    Example:
        >>> network = torch.nn.Sequential(torch.nn.Linear(8, 6), torch.nn.Tanh(), torch.nn.Linear(6, 4))
        >>> found = invert(network, network(torch.randn(3, 8)).detach(), torch.zeros(1, 8))
        >>> found.converged
        tensor([True, True, True])
    """
    if method != "auto" and method not in SOLVERS:
        raise ValueError(f"method: expected one of {', '.join(('auto', *SOLVERS))}, got {method!r}")
    if not (math.isfinite(tol) and tol > 0):
        raise ValueError(f"tol: expected a finite number greater than 0, got {tol!r}")
    if isinstance(max_evaluations, bool) or not isinstance(max_evaluations, int) or max_evaluations < 1:
        raise ValueError(f"max_evaluations: expected a whole number of at least 1, got {max_evaluations!r}")
    batch = batch_size(target)
    check_start(start, batch)
    check_finite("target", target)
    check_finite("start", start)
    if isinstance(network, nn.Module):
        refuse_batch_statistics(network)
        if is_random(network):
            raise ValueError("network: dropout draws other numbers at every evaluation; call network.eval()")
    network = leaving_its_input(network)
    check_output(network(start[:1]), target, 1)
    if batch > 1:
        check_independence(network, start)

    search = _Search(network, target, start.expand(batch, *start.shape[1:]), tol, max_evaluations)
    for solve in (_anderson, _lbfgs, _gauss_newton) if method == "auto" else (SOLVERS[method],):
        solve(search)
    return Inversion(
        search.input.view(batch, *start.shape[1:]), search.residual, search.evaluations, search.residual <= tol
    )


class _Search:
    """The best points so far and what they cost. Inputs and errors are rows: ``(N, D)`` and ``(N, K)``."""

    def __init__(self, network: Network, target: Structure, start: Tensor, tol: float, budget: int) -> None:
        self.network, self.target, self.shape = network, rows(target), start.shape[1:]
        self.tol, self.budget = tol, budget
        self.input = start.flatten(1).clone()
        norm = self.target.norm(dim=1)
        self.scale = torch.where(norm > 0, norm, torch.ones_like(norm))
        self.residual = torch.full_like(self.scale, math.inf)
        self.evaluations = torch.zeros(len(start), dtype=torch.int64, device=start.device)

    def open(self, index: Tensor | None = None, cost: int = 1) -> Tensor:
        """Of the samples at ``index``, say which are neither solved nor out of evaluations."""
        index = torch.arange(len(self.input), device=self.input.device) if index is None else index
        return (self.residual[index] > self.tol) & (self.evaluations[index] + cost <= self.budget)

    def outputs(self, points: Tensor) -> Tensor:
        """Evaluate the network on rows: from shape ``(n, D)`` to ``(n, K)``."""
        return rows(self.network(points.view(-1, *self.shape)))

    def look(self, index: Tensor, points: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """Evaluate the network, remember points that are the best so far, and return errors and pull-back."""
        outputs, pull_back = differentiated(self.outputs, points)
        errors = outputs - self.target[index]
        self.evaluations[index] += 1
        residual = errors.norm(dim=1) / self.scale[index]
        better = residual < self.residual[index]  # never if not a number
        self.residual[index[better]], self.input[index[better]] = residual[better], points[better]
        return errors, pull_back

    def spend(self, index: Tensor, used: Tensor | None = None, cost: int = 1) -> None:
        """Count products with the Jacobian or its transpose, for those samples that ``used`` them."""
        self.evaluations[index if used is None else index[used]] += cost


def _anderson(search: _Search, memory: int = 20, regularisation: float = 1e-10) -> None:
    """Go on for every sample until a step fails to lower its error."""
    index = search.open().nonzero().flatten()
    x = search.input[index]
    error, pull = search.look(index, x)
    moves, changes = x.new_empty(len(x), 0, x.shape[1]), error.new_empty(len(x), 0, error.shape[1])
    while True:
        live = search.open(index, cost=2)
        if not bool(live.any()):
            return
        left, move = error, torch.zeros_like(x)
        if changes.shape[1]:
            # Least squares by its normal equations, the columns of one length, in float64: they become parallel.
            lengths = changes.double().norm(dim=2, keepdim=True).clamp_min(torch.finfo(torch.double).tiny)
            columns = changes.double() / lengths
            gram = columns @ columns.mT + regularisation * torch.eye(columns.shape[1]).to(columns)
            weights = -torch.linalg.solve(gram, columns @ error.double().unsqueeze(2))
            left = error + (columns.mT @ weights).squeeze(2).to(error)
            move = (moves.mT @ (weights / lengths).to(x)).squeeze(2)
        gradient = pull(left)
        search.spend(index, live)
        move = move - _cauchy(left, gradient).unsqueeze(1) * gradient
        before, x = error, x + move
        index, before, x, move, moves, changes = (each[live] for each in (index, before, x, move, moves, changes))
        error, pull = search.look(index, x)
        falls = error.norm(dim=1) < before.norm(dim=1)
        moves = torch.cat([moves, move.unsqueeze(1)], 1)[:, -memory:]
        changes = torch.cat([changes, (error - before).unsqueeze(1)], 1)[:, -memory:]
        if not bool(falls.all()):
            pull = _restricted(pull, falls)
            index, error, x, moves, changes = (each[falls] for each in (index, error, x, moves, changes))


def _lbfgs(search: _Search, memory: int = 20) -> None:
    """Go on for every sample until even the gradient, as far as it is followed back, does not lower its error."""
    index = search.open(cost=2).nonzero().flatten()
    x = search.input[index]
    if not len(x):
        return
    error, pull = search.look(index, x)
    gradient = pull(error)
    search.spend(index)
    loss, scale = _half_square(error), _cauchy(error, gradient)
    moves, turns = x.new_zeros(2, len(x), memory, x.shape[1])
    inverse = x.new_zeros(len(x), memory)  # of their inner products; 0 where there is no pair
    direction, size = torch.zeros_like(x), torch.zeros_like(loss)  # 0: a new direction is due

    while True:
        live = search.open(index, cost=2) & ~((size > 0) & (size < SHORTEST) & (inverse[:, -1] == 0))
        if not bool(live.all()):
            index, x, gradient, loss, scale, moves, turns, inverse, direction, size = (
                each[live] for each in (index, x, gradient, loss, scale, moves, turns, inverse, direction, size)
            )
        if not len(x):
            return
        forgets = (size > 0) & (size < SHORTEST)  # no descent along it: back to the gradient
        inverse[forgets] = 0
        new = (size == 0) | forgets
        direction = torch.where(new.unsqueeze(1), -_two_loops(gradient, moves, turns, inverse, scale), direction)
        size = torch.where(new, torch.ones_like(size), size)
        slope = (direction * gradient).sum(1)

        moved = x + size.unsqueeze(1) * direction
        error, pull = search.look(index, moved)
        tried = _half_square(error)
        falls = (tried <= loss + SUFFICIENT * size * slope) & (slope < 0)
        turned = gradient
        if bool(falls.any()):
            turned = pull(torch.where(falls.unsqueeze(1), error, torch.zeros_like(error)))
        search.spend(index, falls)

        move, turn = moved - x, turned - gradient
        product = (move * turn).sum(1)
        pairs = falls & (product > 1e-8 * move.norm(dim=1) * turn.norm(dim=1))
        if bool(pairs.any()):
            moves[pairs] = torch.cat([moves[pairs, 1:], move[pairs].unsqueeze(1)], 1)
            turns[pairs] = torch.cat([turns[pairs, 1:], turn[pairs].unsqueeze(1)], 1)
            inverse[pairs] = torch.cat([inverse[pairs, 1:], product[pairs].reciprocal().unsqueeze(1)], 1)
            scale = torch.where(pairs, product / turn.square().sum(1), scale)
        # Where the parabola through both losses and the slope has its minimum, within bounds.
        rise = tried - loss - size * slope
        parabola = torch.where(rise > 0, -slope * size.square() / (2 * rise), 0.5 * size)
        shorter = torch.minimum(torch.maximum(torch.nan_to_num(parabola), 0.1 * size), 0.5 * size)
        size = torch.where(falls, torch.zeros_like(size), shorter)
        x = torch.where(falls.unsqueeze(1), moved, x)
        gradient = torch.where(falls.unsqueeze(1), turned, gradient)
        loss = torch.where(falls, tried, loss)


def _two_loops(gradient: Tensor, moves: Tensor, turns: Tensor, inverse: Tensor, scale: Tensor) -> Tensor:
    """Multiply by the inverse Hessian that the pairs make up, oldest first (Nocedal and Wright, algorithm 7.4)."""
    direction, parts = gradient, []
    for k in reversed(range(moves.shape[1])):
        part = inverse[:, k] * (moves[:, k] * direction).sum(1)
        direction = direction - part.unsqueeze(1) * turns[:, k]
        parts.append(part)
    direction = scale.unsqueeze(1) * direction
    for k, part in enumerate(reversed(parts)):
        other = inverse[:, k] * (turns[:, k] * direction).sum(1)
        direction = direction + (part - other).unsqueeze(1) * moves[:, k]
    return direction


def _gauss_newton(search: _Search, reduction: float = 0.5, most: int = 50) -> None:
    """Go on for every sample until its error falls along none of a step's halves."""
    index = search.open(cost=3).nonzero().flatten()
    x = search.input[index]
    if not len(x):
        return
    error, pull = search.look(index, x)
    direction, size = torch.zeros_like(x), torch.zeros_like(error[:, 0])  # 0: a new direction is due
    while True:
        live = search.open(index) & ((size == 0) | (size >= SHORTEST))
        if not bool(live.all()):
            index, x, error, direction, size = (each[live] for each in (index, x, error, direction, size))
            pull = _restricted(pull, live)
        if not len(x):
            return
        new = size == 0
        direction = torch.where(
            new.unsqueeze(1), _newton_direction(search, index, new, error, pull, reduction, most), direction
        )
        size = torch.where(new, torch.ones_like(size), size)
        moved = x + size.unsqueeze(1) * direction
        tried, pull = search.look(index, moved)
        falls = tried.norm(dim=1) < (1 - SUFFICIENT * size) * error.norm(dim=1)
        x = torch.where(falls.unsqueeze(1), moved, x)
        error = torch.where(falls.unsqueeze(1), tried, error)
        size = torch.where(falls, torch.zeros_like(size), size / 2)


def _newton_direction(
    search: _Search,
    index: Tensor,
    busy: Tensor,
    error: Tensor,
    pull: Callable[[Tensor], Tensor],
    reduction: float,
    most: int,
) -> Tensor:
    r"""Of :math:`J J^\top w = -e`, make the rest as small as the Krylov space allows until ``reduction`` of it is left.

    Returned is :math:`J^\top w`, zero for the samples that are not ``busy``.
    """
    rest, step = -error, error.new_zeros(len(error), search.input.shape[1])
    goal = reduction * reduction * rest.square().sum(1)
    busy = busy & search.open(index, cost=3)
    if not bool(busy.any()):
        return step
    gradient, push = differentiated(pull, rest)  # the pull-back of the pull-back, which is linear, multiplies by J
    conjugate, square = gradient, gradient.square().sum(1)
    search.spend(index, busy)
    for _ in range(most):
        pushed = push(conjugate)
        search.spend(index, busy)
        length = pushed.square().sum(1)
        along = torch.where(busy & (length > 0), square / length, torch.zeros_like(square)).unsqueeze(1)
        step, rest = step + along * conjugate, rest - along * pushed
        busy = busy & (length > 0) & (rest.square().sum(1) > goal) & search.open(index, cost=3)
        if not bool(busy.any()):
            break
        gradient = pull(rest)
        search.spend(index, busy)
        before, square = square, gradient.square().sum(1)
        conjugate = torch.where(busy.unsqueeze(1), gradient + (square / before).unsqueeze(1) * conjugate, conjugate)
    return step


def _gradient(search: _Search, iterations: int = 8) -> None:
    r"""Follow the plain flow of equation 1, the step at first :math:`1 / \sigma^2`, halved where the error rises."""
    index = search.open(cost=2 * iterations + 4).nonzero().flatten()
    x = search.input[index]
    if not len(x):
        return
    sigma = largest_singular_value(search.outputs, x, iterations)[0]
    search.spend(index, cost=2 * iterations + 2)  # one of each to begin with
    step = sigma.square().clamp_min(torch.finfo(x.dtype).eps).reciprocal().unsqueeze(1)
    error, pull = search.look(index, x)
    while True:
        live = search.open(index, cost=2) & torch.isfinite(error).all(1)
        if not bool(live.all()):
            index, x, error, step, pull = index[live], x[live], error[live], step[live], _restricted(pull, live)
        if not len(x):
            return
        before, x = error, x - step * pull(error)
        search.spend(index)
        error, pull = search.look(index, x)
        rises = error.norm(dim=1, keepdim=True) > before.norm(dim=1, keepdim=True)
        step = torch.where(rises, step / 2, step)


def _cauchy(error: Tensor, gradient: Tensor) -> Tensor:
    """The step along the gradient that ends the linearised error if that lies in one singular direction."""
    tiny = torch.finfo(gradient.dtype).tiny
    return error.square().sum(1) / gradient.square().sum(1).clamp_min(tiny)


def _half_square(error: Tensor) -> Tensor:
    return error.square().sum(1) / 2


def _restricted(pull: Callable[[Tensor], Tensor], kept: Tensor) -> Callable[[Tensor], Tensor]:
    """Pull back the kept samples' cotangents through a batch that also held others."""
    places = kept.nonzero().flatten()

    def restricted(cotangents: Tensor) -> Tensor:
        whole = cotangents.new_zeros(len(kept), *cotangents.shape[1:])
        return pull(whole.index_copy(0, places, cotangents))[places]

    return restricted


SOLVERS: dict[str, Callable[[_Search], None]] = {
    "gauss_newton": _gauss_newton,
    "anderson": _anderson,
    "lbfgs": _lbfgs,
    "gradient": _gradient,
}
