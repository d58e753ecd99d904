"""Elementwise functions with their slopes, and products with what a batch shares, in fewer passes over the batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from ..structures import Network
from . import applies_to

__all__ = ["pulled_back", "scaled"]


@dataclass(frozen=True)
class Formula:
    r"""The derivatives of an elementwise function :math:`f`.

    Attributes:
        times_slope: :math:`f' u`, from :math:`u` and :math:`x`.
        times_both: :math:`f' u + f'' v`, from :math:`u`, :math:`v`, :math:`x` and :math:`f'(x)`; differentiable.
        value: :math:`f(x)`, where PyTorch's own is slow.
    """

    times_slope: Callable[[Tensor, Tensor], Tensor]
    times_both: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
    value: Callable[[Tensor], Tensor] | None = None


def _silu(u: Tensor, v: Tensor, x: Tensor, slopes: Tensor) -> Tensor:
    # With the sigmoid s: f' = s + x s (1 - s) and f'' = s (1 - s) (2 + x (1 - 2 s)) = f' + s (1 - 2 f').
    # The product s v is the derivative of softplus, which goes over to 1 where the sigmoid rounds to it.
    product = torch.ops.aten.softplus_backward(v, x, 1.0, 40.0)
    return torch.addcmul(product, slopes, torch.sub(v, product, alpha=2).add_(u))


def _sigmoid(u: Tensor, v: Tensor, x: Tensor, slopes: Tensor) -> Tensor:
    return slopes * torch.addcmul(u, v, torch.tanh(-x / 2))  # f'' = f' (1 - 2 f)


def _elu(u: Tensor, v: Tensor, x: Tensor, slopes: Tensor) -> Tensor:
    return torch.addcmul(u * slopes, torch.ops.aten.threshold_backward(v, -x, 0), slopes)  # f'' = f' below 0, else 0


def _elu_value(x: Tensor) -> Tensor:
    # PyTorch's takes expm1, which is ten times slower; it differs by one rounding of 1.
    return torch.maximum(x, x.clamp(max=0).exp_().sub_(1))


_SILU = Formula(torch.ops.aten.silu_backward, _silu)
_SIGMOID = Formula(lambda u, x: torch.ops.aten.sigmoid_backward(u, x.sigmoid()), _sigmoid)
_ELU = Formula(lambda u, x: torch.ops.aten.elu_backward(u, 1.0, 1.0, 1.0, False, x), _elu, _elu_value)
FORMULAS: dict[Any, Formula] = {nn.SiLU: _SILU, nn.Sigmoid: _SIGMOID, torch.sigmoid: _SIGMOID, nn.ELU: _ELU}


def pulled_back(function: Network, x: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]] | None:
    """Return an elementwise function at ``x`` and its pull-back, or None if there is no formula for it."""
    formula = FORMULAS.get(type(function) if isinstance(function, nn.Module) else function)
    if formula is None or getattr(function, "alpha", 1) != 1 or not applies_to(x):
        return None
    if torch.is_grad_enabled() or len(x) == 1:
        output, slopes = _WithSlopes.apply(function, formula, x)
        return output, lambda e: scaled(e, slopes)

    def pull(e: Tensor) -> Tensor:
        if torch.is_grad_enabled() or not applies_to(e):
            return e * _slopes(formula, x)
        return formula.times_slope(e, x)

    return _evaluated(function, formula, x), pull


def scaled(x: Tensor, scale: Tensor, offset: Tensor | None = None) -> Tensor:
    """Return ``offset + scale * x``, where the batch shares the scale and the offset: shapes ``(1, ...)``."""
    offsets = [] if offset is None else [offset]
    # First whether it applies: `len` would make the batch of a traced network a constant.
    if not applies_to(x) or len(x) == 1 or any(len(each) > 1 for each in (scale, *offsets)):
        return x * scale if offset is None else offset + x * scale
    return cast(Tensor, _Scaled.apply(x, scale, *offsets))


class _WithSlopes(torch.autograd.Function):
    r"""From :math:`x` to :math:`f(x)` and :math:`f'(x)`."""

    @staticmethod
    def forward(ctx: Any, function: Network, formula: Formula, x: Tensor) -> tuple[Tensor, Tensor]:
        output = _evaluated(function, formula, x)
        slopes = _slopes(formula, x)
        ctx.set_materialize_grads(False)
        ctx.formula = formula
        ctx.save_for_backward(x, slopes)
        return output, slopes

    @staticmethod
    def backward(ctx: Any, of_output: Tensor | None, of_slopes: Tensor | None) -> tuple[Tensor | None, ...]:
        x, slopes = ctx.saved_tensors
        if of_slopes is None:
            return None, None, None if of_output is None else of_output * slopes
        of_output = torch.zeros_like(of_slopes) if of_output is None else of_output
        return None, None, ctx.formula.times_both(of_output, of_slopes, x, slopes)


class _Scaled(torch.autograd.Function):
    """From x to offset + scale * x; the gradients of scale and offset are sums over the batch."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, *offset: Tensor) -> Tensor:
        ctx.save_for_backward(x, scale)
        ctx.shapes = [each.shape for each in offset]
        scale = _in_the_order_of(x, scale)
        return torch.addcmul(_in_the_order_of(x, *offset), x, scale) if offset else x * scale

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, ...]:
        x, scale = ctx.saved_tensors
        offsets = (_sum_of_samples(gradient).sum_to_size(shape) for shape in ctx.shapes)
        of_scale = _sum_of_samples(gradient * x).sum_to_size(scale.shape)
        return gradient * _in_the_order_of(x, scale), of_scale, *offsets


def _evaluated(function: Network, formula: Formula, x: Tensor) -> Tensor:
    """Return a function of ``x``, which stays as it is if the function works in place."""
    if formula.value is not None:
        return formula.value(x)
    output: Tensor = function(x.clone() if getattr(function, "inplace", False) else x)
    return output


@torch.no_grad()
def _slopes(formula: Formula, x: Tensor) -> Tensor:
    return formula.times_slope(x.new_ones(()).expand_as(x), x)


def _in_the_order_of(x: Tensor, shared: Tensor) -> Tensor:
    """Expand to a sample's shape, laid out in memory as in ``x``: broadcasting over the batch alone is quick."""
    if torch.is_grad_enabled():
        return shared
    return torch.empty_like(x[:1]).copy_(shared)


def _sum_of_samples(x: Tensor) -> Tensor:
    """Return the sum over the batch, shape ``(1, ...)``; in PyTorch ten times slower if channels are last."""
    if x.ndim == 4 and not x.is_contiguous():
        return x.permute(0, 2, 3, 1).sum(0, keepdim=True).permute(0, 3, 1, 2)
    return x.sum(0, keepdim=True)
