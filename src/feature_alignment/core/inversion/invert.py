r"""The pre-image of a target under any given network, without training it.

An input :math:`r` with :math:`E(r) = z` is sought by minimising
:math:`\mathcal L(r) = \tfrac12 \lVert e(r) \rVert^2`, :math:`e(r) = E(r) - z`. The gradient flow of equation 1 finds it
if the network was trained to be aligned; on others it stalls along the small singular values of the Jacobian
:math:`J`. The other solvers do not, and need no more than products with :math:`J` and :math:`J^\top` either.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor

from ..checks import batch_size as samples
from ..pullback import explained
from ..structures import Network, Structure, rows, standard, wide
from .anderson import anderson
from .discrepancy import shorten_last_step
from .gauss_newton import gauss_newton
from .gradient import gradient
from .lbfgs import lbfgs
from .problem import SHIFTS, Problem, begin, draw_starts, pose
from .search import Search
from .variables import Pixels, Variables, as_variables

__all__ = ["SOLVERS", "Inversion", "invert"]

#: Lowers the residuals of a search's samples at an index, shape ``(n,)``, until they are solved or it gives them up.
Solver: TypeAlias = Callable[[Search, Tensor], None]

SOLVERS: dict[str, Solver] = {
    "gauss_newton": gauss_newton,
    "anderson": anderson,
    "lbfgs": lbfgs,
    "gradient": gradient,
}

#: One after the other, each for the samples that those before it gave up: cheap and fast first, robust last.
AUTO = ("anderson", "lbfgs", "gauss_newton")

#: Of warnings: the caller of :func:`invert`, under the wrapper of ``no_grad``.
LEVEL = 5


@dataclass(frozen=True)
class Inversion:
    r"""What :func:`invert` found, for each of ``N`` samples; with ``starts=k`` all shapes begin ``(k, N)``.

    Attributes:
        input: :math:`r`, shape ``(N, ...)``, the best point seen.
        residual: :math:`\lVert E(r) - z \rVert / \lVert z \rVert` there, shape ``(N,)`` (not divided where
            :math:`z = 0`), of the chosen units, weighted.
        evaluations: of the network: a forward pass, a vector-Jacobian or a Jacobian-vector product is one each;
            int64, shape ``(N,)``.
        converged: whether ``residual`` is at most ``tol``, or at the noise level; bool, shape ``(N,)``.
        point: :math:`u`, the variables of ``input``, shape ``(N, ...)``.
    """

    input: Tensor
    residual: Tensor
    evaluations: Tensor
    converged: Tensor
    point: Tensor


@torch.no_grad()
def invert(
    network: Network,
    target: Structure,
    start: Tensor | None = None,
    tol: float = 1e-3,
    max_evaluations: int = 1000,
    *,
    method: str = "auto",
    variables: str | Variables = "pixels",
    units: Any = None,
    weights: Any = None,
    noise: float = 0.0,
    jitter: int = 0,
    starts: int = 1,
    batch_size: int | None = None,
    seed: int = 0,
) -> Inversion:
    r"""Find an input that a given network maps to ``target``, without training or knowledge of its layers.

    Many inputs may have the same output: the one returned is near ``start``, in the norm of ``variables``. Samples are
    solved independently: a result does not depend on the other samples, except for rounding. A few evaluations before
    the search and one after it check the network; they are not counted.

    Args:
        network: :math:`E`, as for :func:`~feature_alignment.align`; it may not draw random numbers. For images between
            0 and 1 the normalisation of their pixels is a part of it.
        target: :math:`z`, of the structure, shapes and dtypes of the network's output for ``N`` samples.
        start: shape ``(N, ...)``, or ``(1, ...)`` for all; by default that of the variables, if they have one.
        tol: the relative residual :math:`\lVert E(r) - z \rVert / \lVert z \rVert` to reach, greater than 0.
        max_evaluations: budget of network evaluations per sample, at least 1.
        method: ``anderson``, ``lbfgs``, ``gauss_newton`` or ``gradient`` (the plain flow with the step
            :math:`1 / \sigma^2`, by power iteration, which counts). ``auto`` begins with ``anderson``, continues with
            ``lbfgs`` for the samples where a step fails to lower the error, and with ``gauss_newton`` for those
            where ``lbfgs`` finds no descent direction.
        variables: what is varied, an entry of ``VARIABLES``: ``pixels``, the inputs themselves, not bounded;
            ``bounded``, their logits; ``natural``, in which photographs are likely. Or an object:
            :meth:`Variables.fit`, :class:`Generative`. See ``docs/inversion.md`` for what each costs.
        units: match these alone: a channel (a class, a neuron), a list of them, or a boolean mask of the shape of one
            sample's output; for an output of several tensors a structure like it, ``None`` for all units of one. The
            target may hold the chosen units alone, shape ``(N, units)``, channels in the order given; one of the shape
            of the whole output is taken as that, also where all channels are chosen.
        weights: of the errors of an output of several tensors, in its structure: numbers of at least 0.
        noise: the standard deviation of noise in every number of the target. The search ends at its level,
            :math:`\lVert E(r) - z \rVert = \sqrt K \cdot` ``noise``, and not below (the discrepancy principle).
        jitter: minimise the mean square error over the image and four shifts of it by up to so many pixels, which costs
            five evaluations instead of one. As the outputs for the shifts differ, the residual does not reach 0.
        starts: how many starts for every sample: ``start``, then normal deviations of ``variables.deviation`` from it.
            What differs between their results is what the output leaves free.
        batch_size: solve so many samples at a time, to bound memory; all by default.
        seed: of ``starts`` and ``jitter``.

    Returns:
        An :class:`Inversion`. For samples that did not converge it has the best point found; no error is raised. If
        the network cannot be evaluated or differentiated at an iterate, a warning of one line is issued.

    Raises:
        TypeError, ValueError: as for :func:`~feature_alignment.align`; an argument out of range; variables for inputs
            of another size; units that the output does not have.
        Exception: what the network raises, if it cannot be differentiated even at the start, or if memory runs out.

    Example:
        >>> network = torch.nn.Sequential(torch.nn.Linear(8, 6), torch.nn.Tanh(), torch.nn.Linear(6, 4))
        >>> found = invert(network, network(torch.randn(3, 8)).detach(), torch.zeros(1, 8))
        >>> found.converged
        tensor([True, True, True])
        >>> invert(network, torch.full((1, 1), 0.2), torch.zeros(1, 8), units=3).converged  # one neuron
        tensor([True])
    """
    _check_options(tol, max_evaluations, method, noise)
    _check_whole("starts", starts, 1)
    _check_whole("jitter", jitter, 0)
    if batch_size is not None:
        _check_whole("batch_size", batch_size, 1)
    if jitter and max_evaluations < SHIFTS:
        raise ValueError(
            f"max_evaluations: expected at least {SHIFTS}, which jitter takes at once, got {max_evaluations}"
        )
    space, target = as_variables(variables), standard(target)
    points = begin(space, start, count := samples(target))
    problem = pose(
        network, space, target, points, units=units, weights=weights, jitter=jitter, noise=noise, seed=seed
    )  # fmt: skip
    if starts > 1:
        problem = draw_starts(problem, starts, getattr(space, "deviation", 1.0), seed)
    found = []
    for part in problem.split(batch_size or max(1, starts * count)):
        u, *numbers = _search(part, tol, max_evaluations, method)
        found.append((u if isinstance(space, Pixels) else space.forward(u), *numbers, u))
    result = [torch.cat(each) for each in zip(*found, strict=True)]
    return Inversion(*(each if starts == 1 else each.unflatten(0, (starts, count)) for each in result))


def _search(problem: Problem, tol: float, budget: int, method: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return points, residuals, evaluations, and whether the samples converged."""
    search = Search(
        problem.network, problem.target, problem.start, tol, budget, noise=problem.noise, cost=problem.cost,
        logits=problem.logits,
    )  # fmt: skip
    everything = torch.arange(len(problem.start), device=problem.start.device)
    for name in AUTO if method == "auto" else (method,):
        failures: dict[int, Exception] = {}
        _solve(SOLVERS[name], search, everything[search.active(everything)], failures)
        _report(name, search, failures)
    if problem.noise:
        shorten_last_step(search, search.tolerance > tol)
    points = search.inputs(search.input)
    residual = _verified(search, problem.evaluate(points))
    return points, residual, search.evaluations, residual <= search.tolerance


def _check_options(tol: float, max_evaluations: int, method: str, noise: float) -> None:
    if method != "auto" and method not in SOLVERS:
        raise ValueError(f"method: expected one of {', '.join(('auto', *SOLVERS))}, got {method!r}")
    if not (math.isfinite(tol) and tol > 0):
        raise ValueError(f"tol: expected a finite number greater than 0, got {tol!r}")
    if not (math.isfinite(noise) and noise >= 0):
        raise ValueError(f"noise: expected a finite standard deviation of at least 0, got {noise!r}")
    _check_whole("max_evaluations", max_evaluations, 1)


def _check_whole(name: str, value: int, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{name}: expected a whole number of at least {least}, got {value!r}")


def _solve(solver: Solver, search: Search, index: Tensor, failures: dict[int, Exception]) -> None:
    """Run a solver; where it raises, run it for either half of the samples, so that the others are not lost."""
    index, before = index[search.active(index)], search.state()
    try:
        if len(index):
            with explained(search.network, search.start[:1]):
                solver(search, index)
    except Exception as error:
        if _is_out_of_memory(error):
            raise
        if len(index) == 1:
            failures[int(index)] = error
            return
        search.restore(before)  # a sample's result does not depend on its neighbours'
        for half in index.tensor_split(2):
            _solve(solver, search, half, failures)


def _is_out_of_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "allocate memory" in str(error)  # CPU: no type


def _report(solver: str, search: Search, failures: dict[int, Exception]) -> None:
    """Warn of failures; raise one if nothing is lost by it, as no sample got any further than its start."""
    if not failures:
        return
    sample, error = next(iter(failures.items()))
    if len(failures) == len(search.input) and torch.equal(search.input, wide(search.start).flatten(1)):
        raise error
    warnings.warn(
        f"{solver} failed for {len(failures)} of {len(search.input)} samples, first for sample {sample}, whose best "
        f"point so far is kept: {type(error).__name__}: {(str(error).splitlines() or [''])[0]}",
        RuntimeWarning,
        stacklevel=LEVEL,
    )


def _verified(search: Search, output: Structure) -> Tensor:
    """Return the residuals at the best points, or what they are at a second evaluation, where that differs."""
    found = rows(output)
    residual = (wide(found) - search.target).norm(dim=1) / search.scale
    rounding = 100 * torch.finfo(found.dtype).eps * wide(found).norm(dim=1) / search.scale
    agrees = (residual - search.residual).abs() <= rounding + 1e-2 * search.residual
    known = search.residual.isfinite()  # not so where the budget did not let a solver begin
    changed = ~agrees & known
    if bool(changed.any()):
        sample = int(changed.nonzero()[0])
        warnings.warn(
            f"network: a second evaluation of the same input differs, first for sample {sample} (residual "
            f"{float(search.residual[sample]):.3g}, then {float(residual[sample]):.3g}): is it random, or does it "
            "change from call to call?",
            RuntimeWarning,
            stacklevel=LEVEL,
        )
    return torch.where(changed | ~known, residual.nan_to_num(nan=math.inf), search.residual)
