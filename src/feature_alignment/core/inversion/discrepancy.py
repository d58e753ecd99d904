r"""The discrepancy principle: of a target with noise, match no more than the noise allows.

A target :math:`z + n`, :math:`\lVert n \rVert \approx \delta`, is :math:`\delta` away from the truth: a residual below
it fits the noise (Engl, Hanke and Neubauer, *Regularization of Inverse Problems*, 1996, §4.3). The search stops at the
first point within :math:`\delta`. The last step may go far beyond; it is then shortened.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .search import Search

__all__ = ["shorten_last_step"]

#: A residual of this share of the noise level or more is left as it is.
ENOUGH = 0.8


def shorten_last_step(search: Search, noisy: Tensor, most: int = 12) -> None:
    """Bisect the last step until the residual is between 0.8 and 1 times the tolerance, for the samples in a mask."""
    outside, inside = search.outside.clone(), search.input.clone()
    residual = search.residual.clone()
    for _ in range(most):
        known = torch.isfinite(search.outside_residual) & (residual <= search.tolerance)
        within = noisy & known & (residual < ENOUGH * search.tolerance)
        index = (within & (search.evaluations + search.cost <= search.budget)).nonzero().flatten()
        if not len(index):
            break
        middle = (outside[index] + inside[index]) / 2
        found = search.residual_at(index, middle)
        search.spend(index)
        solved = found <= search.tolerance[index]
        inside[index[solved]], residual[index[solved]] = middle[solved], found[solved]
        outside[index[~solved]] = middle[~solved]
    search.input, search.residual = inside, residual
