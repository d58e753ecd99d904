r"""Claim (a): the feature of a linear layer converges (equations 9-17).

One weight converges to :math:`\hat a / w`, a matrix to the solution by the pseudo-inverse. Equations 11-16 follow
from :math:`r^1 = r^0 + w (\hat a - w r^0)`; equation 11 prints a minus in its first form.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import skip_init

from ...core.alignment import align
from .layers import BOUND

__all__ = ["equation_16", "features"]

#: Weights of equation 16, inside, on and beyond the bound.
SCALARS = (0.1, 0.2, 0.4, 0.7, 1.0, 1.2, 1.4, BOUND, 1.5, 1.6)
#: Numbers of steps p at which a feature is evaluated.
POWERS = (1, 2, 3, 4, 6, 10, 16, 25, 40, 63, 100)
MATRIX_POWERS = (*POWERS, 160, 250, 400)
#: Outputs and inputs of the random matrices.
SHAPES = {"wide": (12, 30), "tall": (30, 12)}

#: Step sizes below, near and above the bound of a matrix with this largest singular value, and 1.
STEP_SIZES: dict[str, Callable[[float], float]] = {
    "1/sigma^2": lambda top: 1 / top**2,
    "1.9/sigma^2": lambda top: 1.9 / top**2,
    "2.1/sigma^2": lambda top: 2.1 / top**2,
    "1": lambda top: 1.0,
}


def features(seeds: Sequence[int]) -> dict[str, Any]:
    r"""Compare the iteration done by :func:`feature_alignment.align` with closed forms, in float64.

    One weight: equation 16 and its limit (17). A matrix :math:`W = U \Sigma V^\top`, with step size :math:`\tau`:

    .. math::
        r^p = r^0 + V \, \frac{1 - (1 - \tau \Sigma^2)^p}{\Sigma} \, U^\top (z - W r^0)
        \;\to\; r^0 + W^+ (z - W r^0)

    at the rate :math:`\max_\sigma \lvert 1 - \tau \sigma^2 \rvert`, if :math:`\tau \sigma^2 < 2` for every
    singular value :math:`\sigma > 0`.

    Returns:
        ``scalar`` and ``matrix``; a distance is relative to that of the start from the limit.
    """
    scalar = _scalar(seeds)
    matrix = {
        f"{shape} {outputs}x{inputs}": _matrices(outputs, inputs, seeds) for shape, (outputs, inputs) in SHAPES.items()
    }
    return {
        "claim": "The feature converges to a/w, the inverse of the weight, as long as w^2 <= 2 (equations 16, 17).",
        "holds": _verdict(scalar, matrix),
        "scalar": scalar,
        "matrix": matrix,
    }


def _verdict(scalar: dict[str, Any], matrix: dict[str, Any]) -> str:
    """Describe the results in sentences."""
    # Over 100 steps the distance at |w| = 0.1 falls to 0.37; the one on the bound must not fall at all.
    rises = [w for w, left in scalar["distance_after"].items() if left > 1 - 1e-6]
    runs = [run for shape in matrix.values() for run in shape["step_sizes"].values()]
    exact = max(scalar["largest_difference"], *(run["largest_difference"] for run in runs))
    unit = [shape["step_sizes"]["1"] for shape in matrix.values()]
    unstable = sum(run["diverged"] for run in unit)
    entry = max(max(shape["largest_entry"]) for shape in matrix.values())
    rate = max(
        abs(found - expected) for run in runs for found, expected in zip(run["rate"], run["rate_expected"], strict=True)
    )
    stable = [run for run in runs if max(run["rate_expected"]) < 1]
    left_over = max(max(run["distance_after"]) for run in stable)
    return (
        f"Equation 16 {'holds' if exact < 1e-9 else 'DOES NOT hold'}: iteration and closed forms differ by at most "
        f"{exact:.1g}. The limit a/w is approached for weights below {min(map(float, rises), default=math.inf):.4g}, "
        f"and not at {', '.join(rises) or 'none'}: w^2 < 2 must be strict. A matrix converges to the pseudo-inverse "
        f"solution (distance left after {MATRIX_POWERS[-1]} steps: {left_over:.1g}) at the rate "
        f"max|1 - step size * sigma^2| (to within {rate:.1g} a step) where the largest singular value obeys "
        f"sigma^2 < 2 / step size. The entries do not decide that: {unstable} of "
        f"{sum(len(run['rate']) for run in unit)} random matrices, none with an entry above {entry:.2g}, diverge at "
        "step size 1."
    )


def _scalar(seeds: Sequence[int]) -> dict[str, Any]:
    """One weight a coordinate, so that one call serves all of :data:`SCALARS`."""
    weight = torch.tensor(SCALARS, dtype=torch.float64)
    stable = weight < BOUND
    differences, relative, distances = [], [], []
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        start, target = torch.randn(2, 1, len(weight), generator=generator, dtype=torch.float64)
        limit = target / weight
        ends = []
        for power in POWERS:
            feature = align(lambda r: r * weight, target, start, steps=power, check=False)
            difference = (feature - equation_16(start, weight, target, power)).abs()
            differences.append(float(difference[:, stable].max()))
            relative.append(float((difference / feature.abs().clamp_min(1)).max()))
            ends.append(((feature - limit) / (start - limit)).abs()[0])
        distances.append(torch.stack(ends, 1))
    distance = torch.stack(distances).amax(0)  # (weights, powers)
    names = [f"{value:.4g}" for value in SCALARS]
    return {
        "steps": list(POWERS),
        "largest_difference": max(relative),
        "largest_absolute_difference_below_bound": max(differences),
        "distance": dict(zip(names, distance.tolist(), strict=True)),
        "distance_after": dict(zip(names, distance[:, -1].tolist(), strict=True)),
        "distance_expected": dict(zip(names, ((1 - weight**2).abs() ** POWERS[-1]).tolist(), strict=True)),
    }


def equation_16(start: Tensor, weight: Tensor, target: Tensor, steps: int) -> Tensor:
    r"""Return :math:`r^0 (1 - w^2)^p + \sum_{q=0}^{p-1} (1 - w^2)^q \, w \hat a`, term by term as printed."""
    factor = 1 - weight**2
    total = torch.stack([factor**power for power in range(steps)]).sum(0)
    return start * factor**steps + total * weight * target


def _matrices(outputs: int, inputs: int, seeds: Sequence[int]) -> dict[str, Any]:
    """Measure random matrices of one shape, one per seed."""
    found: dict[str, Any] = {"steps": list(MATRIX_POWERS), "largest_entry": [], "largest_singular_value": []}
    runs: dict[str, dict[str, Any]] = {
        name: {
            "step_size": [], "distance": [], "distance_after": [], "rate": [], "rate_expected": [], "diverged": 0,
            "largest_difference": 0.0,
        }
        for name in STEP_SIZES
    }  # fmt: skip
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        matrix = torch.randn(outputs, inputs, generator=generator, dtype=torch.float64)
        matrix = matrix / math.sqrt(max(outputs, inputs))
        target = torch.randn(1, outputs, generator=generator, dtype=torch.float64)
        start = torch.randn(1, inputs, generator=generator, dtype=torch.float64)
        top = np.linalg.svd(matrix.numpy(), full_matrices=False)[1][0]
        found["largest_entry"].append(float(matrix.abs().max()))
        found["largest_singular_value"].append(float(top))
        for name, size_of in STEP_SIZES.items():
            _add(runs[name], _iterated(matrix, target, start, size_of(float(top))))
    return {**found, "step_sizes": runs}


def _add(run: dict[str, Any], found: dict[str, Any]) -> None:
    """Add one matrix to those of a step size."""
    for key in ("step_size", "distance", "distance_after", "rate", "rate_expected"):
        run[key].append(found[key])
    run["diverged"] += not found["distance_after"] <= 1
    run["largest_difference"] = max(run["largest_difference"], found["largest_difference"])


def _iterated(matrix: Tensor, target: Tensor, start: Tensor, size: float) -> dict[str, Any]:
    """Iterate with one matrix and step size, and compare with the closed form after every number of steps."""
    left, values, right = np.linalg.svd(matrix.numpy(), full_matrices=False)
    network = _network(matrix)
    gap = (target - start @ matrix.T).numpy()
    limit = start + torch.from_numpy(gap @ np.linalg.pinv(matrix.numpy()).T)
    largest, distance = 0.0, []
    feature, done = start, 0
    for power in MATRIX_POWERS:
        feature = align(network, target, feature, steps=power - done, step_size=size, check=False)
        done = power
        closed = start.numpy() + gap @ left @ np.diag((1 - (1 - size * values**2) ** power) / values) @ right
        difference = float((feature - torch.from_numpy(closed)).norm() / max(1.0, np.linalg.norm(closed)))
        largest = max(largest, difference)
        distance.append(float((feature - limit).norm() / (start - limit).norm()))
    # The slowest part alone is left after a while, and rounding errors alone after a long while.
    early, late = MATRIX_POWERS.index(63), MATRIX_POWERS.index(160)
    return {
        "step_size": size,
        "distance": distance,
        "distance_after": distance[-1],
        "rate": (distance[late] / distance[early]) ** (1 / (160 - 63)),
        "rate_expected": float(np.abs(1 - size * values**2).max()),
        "largest_difference": largest,
    }


def _network(matrix: Tensor) -> nn.Linear:
    outputs, inputs = matrix.shape
    network: nn.Linear = skip_init(nn.Linear, inputs, outputs, bias=False, dtype=matrix.dtype).requires_grad_(False)
    network.weight.copy_(matrix)
    return network
