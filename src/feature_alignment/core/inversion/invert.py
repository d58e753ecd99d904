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
from typing import TypeAlias

import torch
from torch import Tensor, nn

from ..checks import (
    batch_size,
    check_finite,
    check_floating,
    check_independence,
    check_output,
    check_start,
    is_random,
    refuse_batch_statistics,
    refuse_quantised,
)
from ..pullback import any_batch, explained
from ..structures import Network, Structure, rows, standard
from .anderson import anderson
from .gauss_newton import gauss_newton
from .gradient import gradient
from .lbfgs import lbfgs
from .search import Search

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
    method: str = "auto",
) -> Inversion:
    r"""Find an input that a given network maps to ``target``, without training or knowledge of its layers.

    Inputs are not bounded; for images in (0, 1), invert ``lambda r: network(r.sigmoid())`` and squash the result.
    Many inputs may have the same output: the one returned is near ``start``. Samples are solved independently: a
    result does not depend on the other samples, except for rounding. A few evaluations before the search and one after
    it check the network; they are not counted.

    Args:
        network: :math:`E`, as for :func:`~feature_alignment.align`; it may not draw random numbers.
        target: :math:`z`, of the structure, shapes and dtypes of the network's output for ``N`` samples.
        start: shape ``(N, ...)``, or ``(1, ...)`` for all.
        tol: the relative residual :math:`\lVert E(r) - z \rVert / \lVert z \rVert` to reach, greater than 0.
        max_evaluations: budget of network evaluations per sample, at least 1.
        method: ``anderson``, ``lbfgs``, ``gauss_newton`` or ``gradient`` (the plain flow with the step
            :math:`1 / \sigma^2`, by power iteration, which counts). ``auto`` begins with ``anderson``, continues with
            ``lbfgs`` for the samples where a step fails to lower the error, and with ``gauss_newton`` for those
            where ``lbfgs`` finds no descent direction.

    Returns:
        An :class:`Inversion`. For samples that did not converge it has the best point found; no error is raised. If
        the network cannot be evaluated or differentiated at an iterate, a warning of one line is issued.

    Raises:
        TypeError, ValueError: as for :func:`~feature_alignment.align`; ``tol``, ``max_evaluations`` or ``method``
            out of range.
        Exception: what the network raises, if it cannot be differentiated even at the start, or if memory runs out.

    Example:
        >>> network = torch.nn.Sequential(torch.nn.Linear(8, 6), torch.nn.Tanh(), torch.nn.Linear(6, 4))
        >>> found = invert(network, network(torch.randn(3, 8)).detach(), torch.zeros(1, 8))
        >>> found.converged
        tensor([True, True, True])
    """
    _check_options(tol, max_evaluations, method)
    target, batch = standard(target), batch_size(standard(target))
    evaluate = _checked(network, target, start)
    search = Search(network, target, start.expand(batch, *start.shape[1:]), tol, max_evaluations)
    everything = torch.arange(batch, device=start.device)
    for name in AUTO if method == "auto" else (method,):
        failures: dict[int, Exception] = {}
        _solve(SOLVERS[name], search, everything[search.active(everything)], failures)
        _report(name, search, failures)
    points = search.input.view(batch, *start.shape[1:])
    residual = _verified(search, evaluate(points))
    return Inversion(points, residual, search.evaluations, residual <= tol)


def _check_options(tol: float, max_evaluations: int, method: str) -> None:
    if method != "auto" and method not in SOLVERS:
        raise ValueError(f"method: expected one of {', '.join(('auto', *SOLVERS))}, got {method!r}")
    if not (math.isfinite(tol) and tol > 0):
        raise ValueError(f"tol: expected a finite number greater than 0, got {tol!r}")
    if isinstance(max_evaluations, bool) or not isinstance(max_evaluations, int) or max_evaluations < 1:
        raise ValueError(f"max_evaluations: expected a whole number of at least 1, got {max_evaluations!r}")


def _checked(network: Network, target: Structure, start: Tensor) -> Network:
    """Return how to evaluate the network if it can be inverted; TypeError, ValueError if not."""
    check_start(start, batch_size(target))
    check_finite("target", target)
    check_finite("start", start)
    if isinstance(network, nn.Module):
        refuse_batch_statistics(network)
        refuse_quantised(network)
        if is_random(network):
            raise ValueError("network: dropout draws other numbers at every evaluation; call network.eval()")
    whole = any_batch(network)

    def evaluate(points: Tensor) -> Structure:
        return standard(whole(points.clone()))  # it may work in place

    output = evaluate(start[:1])
    check_floating("the network's output", output)
    check_output(output, target, 1)
    check_independence(evaluate if whole is not network else network, start)
    return evaluate


def _solve(solver: Solver, search: Search, index: Tensor, failures: dict[int, Exception]) -> None:
    """Run a solver; where it raises, run it for either half of the samples, so that the others are not lost."""
    index = index[search.active(index)]
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
        for half in index.tensor_split(2):
            _solve(solver, search, half, failures)


def _is_out_of_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "allocate memory" in str(error)  # CPU: no type


def _report(solver: str, search: Search, failures: dict[int, Exception]) -> None:
    """Warn of failures; raise one if nothing is lost by it, as no sample got any further than its start."""
    if not failures:
        return
    sample, error = next(iter(failures.items()))
    if len(failures) == len(search.input) and torch.equal(search.input, search.start.flatten(1)):
        raise error
    warnings.warn(
        f"{solver} failed for {len(failures)} of {len(search.input)} samples, first for sample {sample}, whose best "
        f"point so far is kept: {type(error).__name__}: {(str(error).splitlines() or [''])[0]}",
        RuntimeWarning,
        stacklevel=4,  # the caller of invert, under no_grad's wrapper
    )


def _verified(search: Search, output: Structure) -> Tensor:
    """Return the residuals at the best points, or what they are at a second evaluation, where that differs."""
    residual = (rows(output) - search.target).norm(dim=1) / search.scale
    rounding = 100 * torch.finfo(residual.dtype).eps * rows(output).norm(dim=1) / search.scale
    agrees = (residual - search.residual).abs() <= rounding + 1e-2 * search.residual
    changed = ~agrees & search.residual.isfinite()
    if bool(changed.any()):
        sample = int(changed.nonzero()[0])
        warnings.warn(
            f"network: a second evaluation of the same input differs, first for sample {sample} (residual "
            f"{float(search.residual[sample]):.3g}, then {float(residual[sample]):.3g}): is it random, or does it "
            "change from call to call?",
            RuntimeWarning,
            stacklevel=4,
        )
    return torch.where(changed, residual, search.residual)
