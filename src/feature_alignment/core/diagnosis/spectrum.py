r"""Singular values of the Jacobian at images: the effective rank, the largest and the smallest.

The effective rank is the participation ratio :math:`(\sum \sigma_k^2)^2 / \sum \sigma_k^4`: the number of singular
values, if all are equal, and near the number of large ones otherwise. Both sums are found without the singular values.
With probes :math:`v` of independent entries :math:`\pm 1`, :math:`\mathbb E \lVert J v \rVert^2 = \sum \sigma_k^2` and
:math:`\mathbb E \lVert J^\top J v \rVert^2 = \sum \sigma_k^4` (M. F. Hutchinson, *Commun. Stat. Simul. Comput.* 18,
1989). Ratio and standard error are those of the jackknife over the probes (B. Efron and C. Stein, *Ann. Stat.* 9,
1981), which removes the leading bias of a ratio.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..linearization import largest_singular_value
from ..pullback import NotDifferentiableError, explained, transposed, vjp
from ..structures import Network, from_rows, rows, wide

__all__ = ["WHOLE", "Spectrum", "participation_ratio", "spectrum"]

#: Up to so many outputs the whole Jacobian is computed.
WHOLE = 512

#: Rows of the Jacobian computed at once.
ROWS = 64


@dataclass(frozen=True)
class Spectrum:
    """What :func:`spectrum` returns, for each of ``N`` images.

    Attributes:
        effective_rank: the participation ratio, shape ``(N,)``.
        standard_error: of it, by the probes; 0 where the whole Jacobian was computed; shape ``(N,)``.
        largest: singular value, shape ``(N,)``.
        smallest: of the ``min(K, D)`` singular values, shape ``(N,)``; none above 512 outputs.
        evaluations: of the network, int64, shape ``(N,)``.
    """

    effective_rank: Tensor
    standard_error: Tensor
    largest: Tensor
    smallest: Tensor | None
    evaluations: Tensor


@torch.no_grad()
def spectrum(network: Network, points: Tensor, probes: int = 16, seed: int = 0) -> Spectrum:
    r"""Measure the Jacobian of ``K`` outputs with respect to ``D`` inputs at each point.

    Up to 512 outputs the whole Jacobian is computed, and everything is exact. Above that the effective rank is
    estimated by random probes, and the largest singular value by :func:`largest_singular_value`, from below; they are
    NaN for a network that is differentiable once, without products :math:`J v`.

    Args:
        network: as for :func:`~feature_alignment.align`.
        points: shape ``(N, ...)``.
        probes: number of random vectors, at least 2.
        seed: of the probes.

    Raises:
        ValueError: fewer than 2 probes.

    Example:
        >>> network = nn.Linear(3, 2, bias=False)
        >>> network.weight.data = torch.tensor([[3.0, 0, 0], [0, 4, 0]])
        >>> found = spectrum(network, torch.zeros(1, 3))
        >>> found.largest, found.smallest, found.effective_rank  # 25^2 / (3^4 + 4^4)
        (tensor([4.]), tensor([3.]), tensor([1.8546]))
    """
    if probes < 2:
        raise ValueError(f"probes: expected at least 2, got {probes}")
    outputs = rows(vjp(network, points[:1])[0]).shape[1]
    if outputs <= WHOLE:
        return _whole(network, points, outputs)
    try:
        return _probed(network, points, probes, seed)
    except NotDifferentiableError:
        unknown = torch.full((len(points),), math.nan, dtype=points.dtype, device=points.device)
        return Spectrum(unknown, unknown, unknown, None, _count(points, 1))


def _whole(network: Network, points: Tensor, outputs: int) -> Spectrum:
    values = torch.stack([_singular_values(network, point) for point in points.split(1)])
    wider = values.double()  # in which fourth powers neither vanish nor overflow
    ratio = participation_ratio(wider.square().sum(1), wider.pow(4).sum(1)).to(values)
    return Spectrum(ratio, torch.zeros_like(ratio), values[:, 0], values[:, -1], _count(points, outputs + 1))


def _singular_values(network: Network, point: Tensor) -> Tensor:
    output, pull_back = vjp(network, point)
    units = torch.eye(rows(output).shape[1], dtype=point.dtype, device=point.device)
    parts = [pull_back(from_rows(some, output)).detach().flatten(1) for some in units.split(ROWS)]
    values: Tensor = torch.linalg.svdvals(wide(torch.cat(parts)))
    return values


def _count(points: Tensor, evaluations: int) -> Tensor:
    return torch.full((len(points),), evaluations, device=points.device)


def _probed(network: Network, points: Tensor, probes: int, seed: int, iterations: int = 20) -> Spectrum:
    output, pull_back = vjp(network, points)
    generator = torch.Generator().manual_seed(seed)
    squares, fourths = [], []
    with explained(network, points):
        push = transposed(pull_back, output)
        for _ in range(probes):
            signs = torch.randint(0, 2, points.shape, generator=generator)
            pushed = push((2 * signs - 1).to(points))
            squares.append(rows(pushed).double().square().sum(1))
            fourths.append(pull_back(pushed).detach().flatten(1).double().square().sum(1))
    ratio, error = _jackknife(torch.stack(squares), torch.stack(fourths))
    largest, _ = largest_singular_value(network, points, iterations)
    return Spectrum(ratio.to(points), error.to(points), largest, None, _count(points, 2 * (probes + iterations) + 4))


def participation_ratio(squares: Tensor, fourths: Tensor) -> Tensor:
    r"""Return :math:`(\sum \sigma^2)^2 / \sum \sigma^4`, 0 where all are 0."""
    return torch.where(fourths > 0, squares.square() / fourths, torch.zeros_like(fourths))


def _jackknife(squares: Tensor, fourths: Tensor) -> tuple[Tensor, Tensor]:
    """Return the ratio of both sums and its standard error, from probes as the first dimension."""
    count = len(squares)
    whole = participation_ratio(squares.mean(0), fourths.mean(0))
    others = participation_ratio(*((each.sum(0) - each) / (count - 1) for each in (squares, fourths)))
    ratio = count * whole - (count - 1) * others.mean(0)
    error = ((count - 1) * (others - others.mean(0)).square().mean(0)).sqrt()
    return ratio, error
