"""A function with a derivative, but no second one."""

from __future__ import annotations

import torch


class Once(torch.autograd.Function):
    """A hyperbolic tangent without a second derivative, of which there is no J v."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.tanh()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, cotangent):
        return cotangent * (1 - ctx.saved_tensors[0].tanh().square())
