r"""A function of tensors as one graph of ordinary operations, for batches of any size.

A decoder by feature alignment contains gradients of its encoder, :math:`J^\top e`. Where the pull-back has a rule for a
layer these are ordinary operations already, see :mod:`feature_alignment.core.pullback`. Elsewhere automatic
differentiation is traced, by :func:`torch.fx.experimental.proxy_tensor.make_fx`, into the operations it consists of.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.export import Dim, ExportedProgram
from torch.fx.experimental.proxy_tensor import make_fx

from ..core import speed
from ..core.pullback import transposed_conv2d

__all__ = ["traced"]

aten = torch.ops.aten


def traced(function: Callable[..., Tensor], inputs: tuple[Tensor, ...]) -> ExportedProgram:
    """Return ``function`` as an exported program, whose first dimension is dynamic in every input.

    Args:
        function: of tensors with a common first dimension, to one such tensor; its shape must not depend on values.
        inputs: examples, of at least two samples.

    Example:
        >>> program = traced(lambda x: x.sin(), (torch.rand(3, 2),))
        >>> program.module()(torch.zeros(5, 2)).shape
        torch.Size([5, 2])
    """
    with torch.no_grad(), speed.switched(False):
        trace = make_fx(
            lambda *given: function(*given), _decompositions(), tracing_mode="symbolic", _allow_non_fake_inputs=True
        )
        graph = trace(*inputs)
        graph.graph.eliminate_dead_code()
        graph.recompile()
        batch = Dim("batch", min=1)
        return torch.export.export(graph, inputs, dynamic_shapes=tuple({0: batch} for _ in inputs))


def _decompositions() -> dict[Any, Callable[..., Any]]:
    """Return what operations of derivatives consist of, as no other program knows them."""
    known = torch.export.default_decompositions()
    table: dict[Any, Callable[..., Any]] = {
        operation: known[operation] for operation in known if "backward" in str(operation)
    }
    return table | {aten.convolution_backward.default: _convolution_backward}


def _convolution_backward(
    cotangent: Tensor,
    x: Tensor,
    weight: Tensor,
    bias_sizes: Any,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    transposed: bool,
    output_padding: list[int],
    groups: int,
    wanted: list[bool],
) -> Any:
    """Write out the derivative of a convolution for its input."""
    if wanted[1] or wanted[2] or x.ndim != 4:
        return NotImplemented
    if transposed:
        pulled = aten.convolution(cotangent, weight, None, stride, padding, dilation, False, [0, 0], groups)
        pulled = pulled[..., : x.shape[2], : x.shape[3]]
    else:
        size = tuple(x.shape[2:])
        pulled = transposed_conv2d(cotangent, weight, size, tuple(stride), tuple(padding), tuple(dilation), groups)
    return pulled, None, None
