r"""What is searched: the network as a function of the variables, :math:`u \mapsto E(\varphi(u))`, and where from."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from ..checks import (
    check_dtypes,
    check_finite,
    check_floating,
    check_independence,
    check_output,
    check_start,
    explained_trial,
    is_random,
    refuse_batch_statistics,
    refuse_inference,
    refuse_quantised,
)
from ..pullback import Chain, any_batch, evaluation
from ..structures import Network, Structure, describe, rows, standard, tensors
from .outputs import Matched, shifted
from .variables import Pixels, Variables

__all__ = ["SHIFTS", "Problem", "begin", "checked", "draw_starts", "matched_output", "pose"]

#: Shifts of an image in the mean over jitter, itself among them.
SHIFTS = 5


@dataclass(frozen=True)
class Problem:
    """A network of the variables and its targets.

    Attributes:
        network: from ``u`` to outputs, of which ``evaluate`` is a version that leaves its input as it is.
        target: of the structure of its output, ``N`` samples.
        start: ``u`` where the search begins, shape ``(N, ...)``.
        noise: the norm of the noise in a target.
        cost: evaluations of the user's network in one of this.
        logits: from a change of ``u`` to that of the logits of inputs, if these are bounded, of shape ``(N, ...)``.
    """

    network: Network
    evaluate: Network
    target: Structure
    start: Tensor
    noise: float
    cost: int
    logits: Callable[[Tensor], Tensor] | None = None

    def split(self, size: int) -> list[Problem]:
        """Return problems of at most so many samples each, in order."""
        if len(self.start) <= size:
            return [self]
        ranges = [slice(first, first + size) for first in range(0, len(self.start), size)]
        return [replace(self, start=self.start[each], target=_of(self.target, each)) for each in ranges]


def _of(target: Structure, samples: slice) -> Structure:
    return pytree.tree_map(lambda leaf: None if leaf is None else leaf[samples], target)


def begin(variables: Variables, start: Tensor | None, batch: int) -> tuple[Tensor, Tensor]:
    """Return where the search begins: ``u``, and the input there; each one for all or one per sample."""
    if start is None:
        if getattr(variables, "start", None) is None:
            raise ValueError(
                f"start: {type(variables).__name__} have none of their own; give an input of shape (1, ...)"
            )
        u = cast(Tensor, variables.start)
    else:
        check_start(start, batch)
        check_finite("start", start)
        u = variables.inverse(start)
    if isinstance(variables, Pixels):
        return u, u
    try:
        check_independence(variables.forward, u)
        return u, variables.forward(u)
    except ValueError as error:
        raise ValueError(str(error).replace("network:", "variables:", 1)) from error


def pose(
    network: Network,
    variables: Variables,
    target: Structure,
    points: tuple[Tensor, Tensor],
    *,
    units: Any = None,
    weights: Any = None,
    jitter: int = 0,
    noise: float = 0.0,
    seed: int = 0,
) -> Problem:
    """Check network, target, units and weights, and put them together; TypeError, ValueError if they do not fit."""
    u, inputs = points
    output = checked(network, inputs)
    plain = units is None and weights is None
    matched = Matched(output, units, weights)
    if plain or not matched.fits(target):
        _check_target(output, target, plain)
    check_dtypes(output, target)
    check_finite("target", target)
    parts, goal = [any_batch(network)], target
    if jitter or not plain:
        goal = matched.target(target)
        parts = [*parts, matched] if isinstance(output, Tensor) else [matched_output(parts[0], matched)]
    if jitter:
        parts = [shifted(matched_output(any_batch(network), matched), jitter, SHIFTS, seed)]
        goal = goal.repeat(1, SHIFTS) / math.sqrt(SHIFTS)
    if not isinstance(variables, Pixels):
        parts = [variables.forward, *parts]
    inner = parts[0] if len(parts) == 1 else Chain(parts)
    level = noise * float(matched([torch.ones_like(part[:1]) for part in tensors(output)]).norm()) if noise else 0.0
    start = u.expand(len(rows(target)), *u.shape[1:])
    logits = variables.logits if getattr(variables, "squash", False) else None
    return Problem(inner, evaluation(inner), goal, start, level, SHIFTS if jitter else 1, logits)


def matched_output(network: Network, matched: Matched) -> Callable[[Tensor], Tensor]:
    """Return the function from inputs to what is matched of the network's output."""
    return lambda x: matched(standard(network(x)))


def draw_starts(problem: Problem, count: int, deviation: float, seed: int) -> Problem:
    """Repeat all samples: the first time from the start, then from normal deviations from it, drawn by ``seed``."""
    generator = torch.Generator().manual_seed(seed)
    one = problem.start
    shape = ((count - 1) * len(one), *one.shape[1:])
    noise = torch.randn(shape, generator=generator, dtype=torch.double).to(one) * deviation
    starts = torch.cat([one, one.repeat(count - 1, *[1] * (one.ndim - 1)) + noise])
    target = pytree.tree_map(lambda leaf: None if leaf is None else torch.cat([leaf] * count), problem.target)
    return replace(problem, target=target, start=starts)


def checked(network: Network, inputs: Tensor) -> Structure:
    """Return the output for the first input, if the network can be inverted; TypeError, ValueError if not."""
    if isinstance(network, nn.Module):
        refuse_batch_statistics(network)
        refuse_quantised(network)
        refuse_inference(network)
        if is_random(network):
            raise ValueError("network: dropout draws other numbers at every evaluation; call network.eval()")
    evaluate = evaluation(network)
    with explained_trial(network, inputs):
        output = evaluate(inputs[:1] if len(inputs) else inputs.new_zeros(1, *inputs.shape[1:]))
    check_floating("the network's output", output)
    check_independence(evaluate if any_batch(network) is not network else network, inputs)
    return output


def _check_target(output: Structure, target: Structure, plain: bool) -> None:
    check_output(output, target, 1)
    if not plain:
        raise ValueError(f"target: expected the chosen units of the network's output, got {describe(target)}")
