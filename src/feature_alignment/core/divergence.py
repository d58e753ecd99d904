"""Detection of a divergent gradient flow, at the first step that provably increases the residual."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from .structures import Structure, rows

__all__ = ["DivergenceWarning", "check_feature", "check_step"]


class DivergenceWarning(RuntimeWarning):
    """The step size is too large: the gradient flow moves away from its target."""


@torch.no_grad()
def check_step(step: int, size: float | Tensor, gradient: Tensor, residual: Structure) -> None:
    r"""Warn of a step that increases the residual; raise a FloatingPointError if the gradient is not finite.

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
    if bool((factor > 2.0 + 1e-6).any()):
        _warn(step, sizes, factor)


def check_feature(feature: Tensor, steps: int, size: float | Tensor) -> None:
    """Raise a FloatingPointError if the feature after the last step, of size ``size``, is not finite."""
    if not bool(torch.isfinite(feature).all()):
        raise FloatingPointError(f"the feature is not finite after step {steps}: {_smaller_step(size)}")


def _warn(step: int, sizes: Tensor, factor: Tensor) -> None:
    worst = int(factor.argmax())
    taken = float(sizes[worst] if len(sizes) > 1 else sizes[0])
    warnings.warn(
        f"the flow diverges at step {step}: the residual of {int((factor > 2.0 + 1e-6).sum())} of {len(factor)} "
        f"samples grows, most in sample {worst}, by a factor of at least {float(factor[worst]) - 1:.3g}; step_size is "
        f"{taken:.3g}, below {2 * taken / float(factor[worst]):.3g} would be stable there",
        DivergenceWarning,
        stacklevel=5,  # of whoever calls align, behind no_grad
    )


def _smaller_step(size: float | Tensor) -> str:
    largest = float(torch.as_tensor(size).max())
    return f"the flow diverged or the network put out non-finite values; try a step_size below {largest:.3g}"
