r"""Layers whose pull-back is quick to differentiate once more; the same as PyTorch's in everything else.

An alignment step pulls a residual back through every layer, :math:`e \mapsto J^\top e` (equation 2), and training
differentiates that. PyTorch knows the derivative of a convolution's gradient only in a general form: the gradient of
its weights becomes a convolution with kernels as large as the feature maps. Said as a transposed convolution, the same
map has derivatives as fast as those of any layer. And how the slope of a piecewise linear function depends on where it
is taken, which is not at all, PyTorch says by zeros that it adds up over the batch. Replacing a convolution's gradient
for the sake of its derivative is an idea of Karras et al., *Analyzing and improving the image quality of StyleGAN*,
2020.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["Affine", "Conv2d", "LeakyReLU", "composed", "hooked", "transposed_conv2d"]


class _Conv2d(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        stride: tuple[int, int],
        padding: tuple[int, int],
        dilation: tuple[int, int],
        groups: int,
    ) -> Tensor:
        return functional.conv2d(x, weight, bias, stride, padding, dilation, groups)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, weight = inputs[:2]
        ctx.save_for_backward(x, weight)
        ctx.save_for_forward(x, weight)
        ctx.geometry = inputs[3:]

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor | None, ...]:
        (x, weight), (stride, padding, dilation, groups) = ctx.saved_tensors, ctx.geometry
        of_x = of_weight = of_bias = None
        if ctx.needs_input_grad[0]:
            of_x = transposed_conv2d(cotangent, weight, x.shape[2:], stride, padding, dilation, groups)
        if ctx.needs_input_grad[1]:
            of_weight = torch.ops.aten.convolution_backward(
                cotangent, x, weight, None, stride, padding, dilation,
                False, (0, 0), groups, (False, True, False),
            )[1]  # fmt: skip
        if ctx.needs_input_grad[2]:
            of_bias = cotangent.sum((0, 2, 3))
        return of_x, of_weight, of_bias, None, None, None, None

    @staticmethod
    def jvp(ctx: Any, of_x: Tensor | None, of_weight: Tensor | None, of_bias: Tensor | None, *_: Any) -> Any:
        x, weight = ctx.saved_tensors
        change: Any = 0 if of_bias is None else of_bias.view(-1, 1, 1)
        if of_x is not None:
            change = change + functional.conv2d(of_x, weight, None, *ctx.geometry)
        if of_weight is not None:
            change = change + functional.conv2d(x, of_weight, None, *ctx.geometry)
        return change


class Conv2d(nn.Conv2d):
    """:class:`torch.nn.Conv2d` with a pull-back that is quick to differentiate; the same in everything else."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        """Return the convolution of ``input``, shape ``(N, C, H, W)``."""
        plain = self.padding_mode == "zeros" and not isinstance(self.padding, str) and input.ndim == 4
        if torch.compiler.is_compiling() or not plain:
            return super().forward(input)
        geometry = (self.stride, self.padding, self.dilation, self.groups)
        return cast(Tensor, _Conv2d.apply(*_in_one_dtype(input, self.weight, self.bias), *geometry))


def transposed_conv2d(
    output: Tensor,
    weight: Tensor,
    size: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
    groups: int,
) -> Tensor:
    """Return what the transpose of a convolution makes of its ``output``: shape ``(N, C, *size)``."""
    # What the stride leaves over at the far border.
    left_over = [
        whole - ((length - 1) * step - 2 * pad + spread * (kernel - 1) + 1)
        for whole, length, step, pad, spread, kernel in zip(
            size, output.shape[-2:], stride, padding, dilation, weight.shape[-2:], strict=True
        )
    ]
    return functional.conv_transpose2d(output, weight, None, stride, padding, left_over, groups, dilation)


class _LeakyReLU(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, slope: float) -> Tensor:
        return functional.leaky_relu(x, slope)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        # Its sign is the input's, and whatever comes next keeps it anyway: the input can go.
        ctx.save_for_backward(output)
        ctx.save_for_forward(output)
        ctx.slope = inputs[1]

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor, None]:
        return cast(Tensor, _Slopes.apply(cotangent, ctx.saved_tensors[0], ctx.slope)), None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, _: None) -> Tensor:
        return cast(Tensor, _Slopes.apply(tangent, ctx.saved_tensors[0], ctx.slope))


class _Slopes(torch.autograd.Function):
    """The product with the slopes, which do not change with where they are taken."""

    generate_vmap_rule = True

    @staticmethod
    def forward(direction: Tensor, output: Tensor, slope: float) -> Tensor:
        return cast(Tensor, torch.ops.aten.leaky_relu_backward(direction, output, slope, True))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(inputs[1])
        ctx.save_for_forward(inputs[1])
        ctx.slope = inputs[2]

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor, None, None]:
        return cast(Tensor, _Slopes.apply(cotangent, ctx.saved_tensors[0], ctx.slope)), None, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: Any) -> Tensor:
        return cast(Tensor, _Slopes.apply(tangent, ctx.saved_tensors[0], ctx.slope))


class LeakyReLU(nn.LeakyReLU):
    """:class:`torch.nn.LeakyReLU` whose slopes are taken as the constants that they are."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        """Return ``input`` where it is positive, ``negative_slope`` times it elsewhere; any shape."""
        if torch.compiler.is_compiling() or self.inplace or self.negative_slope < 0:
            return super().forward(input)
        return cast(Tensor, _LeakyReLU.apply(input, self.negative_slope))


class Affine(NamedTuple):
    """The weight, shape ``(K, D)``, and the bias, shape ``(K,)``, of an affine map."""

    weight: Tensor
    bias: Tensor


def composed(first: nn.Linear, heads: Sequence[nn.Linear]) -> Affine:
    r"""Return the one affine map that a linear layer and the heads after it, side by side, make up: differentiable.

    .. math::
        W_2 (W_1 x + b_1) + b_2 = (W_2 W_1) x + (W_2 b_1 + b_2)

    What goes through it more than once, forwards or backwards, is spared the wide layer between, at the price of one
    product of weights: the order in which three matrices are multiplied.

    Args:
        first: ``D`` numbers in; with a bias.
        heads: ``K`` numbers out, together; with biases.
    """
    weight = torch.cat([head.weight for head in heads])
    return Affine(
        weight @ first.weight, functional.linear(first.bias, weight, torch.cat([head.bias for head in heads]))
    )


def hooked(*modules: nn.Module) -> bool:
    """Say whether a module has hooks, such as spectral normalisation's: they run only where the module is called."""
    kinds = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")
    return any(getattr(module, kind) for module in modules for kind in kinds)


def _in_one_dtype(*tensors: Tensor | None) -> tuple[Tensor | None, ...]:
    """Cast to what autocast wants: it does not reach into the derivatives of a function of one's own."""
    device = cast(Tensor, tensors[0]).device.type
    if not torch.is_autocast_enabled(device):
        return tensors
    return tuple(None if tensor is None else tensor.to(torch.get_autocast_dtype(device)) for tensor in tensors)
