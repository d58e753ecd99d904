r"""The layers that learn: which they are, :math:`W x`, :math:`W^\top y` and the gradient of :math:`W`."""

from __future__ import annotations

from typing import Any, TypeAlias, TypeGuard

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.grad import conv2d_weight

from ..pullback import by_differentiation, rule_of, transposed_conv2d
from ..speed.fusion import Affine

__all__ = [
    "Learning",
    "accumulate_weight_gradient",
    "centred",
    "has_closed_form",
    "is_affine",
    "learns",
    "linear_part",
    "over_places",
    "pull_back",
    "without_bias",
]

Learning: TypeAlias = nn.Linear | nn.Conv2d


def learns(layer: nn.Module) -> TypeGuard[Learning]:
    """Whether a layer has weights that Algorithm 2 trains."""
    return isinstance(layer, nn.Linear | nn.Conv2d)


def is_affine(layer: Learning) -> bool:
    """Whether a layer is :math:`W x + b`: neither of a class with a ``forward`` of its own nor with a hook."""
    return rule_of(layer) is not by_differentiation


def has_closed_form(layer: Learning) -> bool:
    """Whether an affine layer's transpose is known here."""
    return isinstance(layer, nn.Linear) or (layer.padding_mode == "zeros" and not isinstance(layer.padding, str))


def over_places(bias: Tensor, layer: Learning) -> Tensor:
    """Return a bias that can be added to an output: the same at all places of a convolution's."""
    return bias if isinstance(layer, nn.Linear) else bias.view(-1, 1, 1)


def centred(layer: Learning, output: Tensor) -> Tensor:
    """Return an output minus the bias, which is linear in the input."""
    return output if layer.bias is None else output - over_places(layer.bias, layer)


def without_bias(layer: Learning) -> Affine | nn.Conv2d:
    """Return a layer of the same weight, read once: a parametrised one is computed at every access."""
    weight = layer.weight
    if isinstance(layer, nn.Linear):
        return Affine(weight, weight.new_zeros(len(weight)))
    bare = nn.Conv2d.__new__(nn.Conv2d)
    vars(bare).update({**vars(layer), "_modules": {}, "_parameters": {"bias": None}, "weight": weight})
    return bare


def _geometry(layer: nn.Conv2d) -> dict[str, Any]:
    return {name: getattr(layer, name) for name in ("stride", "padding", "dilation", "groups")}


def linear_part(layer: Learning, x: Tensor) -> Tensor:
    """Return :math:`W x`."""
    if isinstance(layer, nn.Conv2d):
        found: Tensor = layer._conv_forward(x, layer.weight, None)
        return found
    return functional.linear(x, layer.weight)


def pull_back(layer: Learning, y: Tensor, shape: tuple[int, ...]) -> Tensor:
    r"""Return :math:`W^\top y`, of ``shape`` without the batch."""
    if isinstance(layer, nn.Conv2d):
        return transposed_conv2d(y, layer.weight, shape[1:], **_geometry(layer))
    return y @ layer.weight


def accumulate_weight_gradient(layer: Learning, x: Tensor, cotangent: Tensor) -> None:
    r"""Add the gradient of :math:`\langle c, W x \rangle` with respect to :math:`W`, :math:`c` the cotangent."""
    if layer.weight.grad is None:
        layer.weight.grad = torch.zeros_like(layer.weight)
    if isinstance(layer, nn.Conv2d):
        layer.weight.grad += conv2d_weight(x, layer.weight.shape, cotangent, **_geometry(layer))
    else:
        layer.weight.grad.addmm_(cotangent.flatten(0, -2).T, x.flatten(0, -2))
