r"""The vector-Jacobian product of a chain of layers, one layer after the other: equation 2 without a graph.

With :math:`E = E_L \circ \dots \circ E_1` a cotangent is pulled back as :math:`J^\top e = J_1^\top \dots J_L^\top e`,
and for the layers that networks are made of every :math:`J_l^\top` is known: a convolution's is the transposed
convolution, an activation's the product with its slopes. Said so, and not left to automatic differentiation, it is a
network like any other, run from the last layer to the first:

- Its derivatives are as fast as those of any network. PyTorch's own derivative of a convolution's gradient uses kernels
  as large as the feature maps, and how the slope of a piecewise linear function depends on where it is taken, which is
  not at all, it says by zeros that it adds up. (That the former is worth avoiding was seen by Karras et al., *Analyzing
  and improving the image quality of StyleGAN*, 2020.)
- Slopes and weights at one point serve any number of cotangents: a batch that starts at the same point.
- It compiles in one piece.

Layers that no rule is known for are left to :func:`torch.func.vjp`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias, cast

import torch
from torch import Tensor, func, nn
from torch.nn import functional
from torch.utils import _pytree as pytree

from ..checks import Network, Structure, check_floating
from ..layers import Arcsinh, Cast
from ..speed.fusion import Affine, hooked

__all__ = ["Chain", "PullBack", "differentiated", "leaving_its_input", "register_pull_back", "transposed_conv2d", "vjp"]

#: From cotangents of a network's output, shape ``(N, ...)``, to those of its input.
PullBack: TypeAlias = Callable[[Structure], Tensor]
Rule: TypeAlias = Callable[[Any, Tensor], tuple[Structure, PullBack]]


class Chain:
    """Functions, one after the other: what :class:`torch.nn.Sequential` is for modules.

    Args:
        parts: from a tensor to a tensor each, the last one to any structure.
    """

    def __init__(self, parts: Sequence[Network]) -> None:
        self.parts = parts

    def __call__(self, x: Tensor) -> Structure:
        """Return what the last part makes of what the others make of ``x``."""
        for part in self.parts:
            x = part(x)
        return x


def vjp(network: Network, point: Tensor) -> tuple[Structure, PullBack]:
    r"""Return :math:`E(r)` and the function :math:`e \mapsto J(r)^\top e`; both are differentiable.

    Args:
        network: :math:`E`, as for :func:`feature_alignment.align`. A :class:`torch.nn.Sequential` and a :class:`Chain`
            are taken apart.
        point: :math:`r`, shape ``(N, ...)``, or ``(1, ...)`` to pull back any number of cotangents there.

    Returns:
        The output; and a function from cotangents, of the structure and dtypes of the output and with ``N`` samples, or
        any number if ``point`` is one, to as many tensors of the shape and dtype of a sample of ``point``.
    """
    if _works_in_place(network):
        point = point.clone()  # the caller's stays as it is
    return _rule(network)(network, point)


def differentiated(function: Callable[[Structure], Structure], point: Structure) -> tuple[Structure, PullBack]:
    """Return :func:`torch.func.vjp` of a function of one argument, without the tuple around what is pulled back.

    In inference mode, where PyTorch 2.11 pulls back zeros without a word, it is taken outside of it.
    """
    output, pull_back = _outside_inference_mode(lambda: func.vjp(function, point)[:2])

    def pull(cotangent: Structure) -> Tensor:
        return cast(Tensor, _outside_inference_mode(lambda: pull_back(cotangent)[0]))

    return output, pull


def _outside_inference_mode(function: Callable[[], Any]) -> Any:
    if torch.compiler.is_compiling() or not torch.is_inference_mode_enabled():
        return function()
    with torch.inference_mode(False), torch.no_grad():
        return function()


def register_pull_back(kind: type[nn.Module], rule: Rule) -> None:
    """Say how to pull back through a layer of your own, where that is quicker than by differentiation.

    Args:
        kind: type of the layer; it holds for types derived from it too, unless they have a ``forward`` of their own.
        rule: from the layer and its input to its output and the pull-back, as :func:`vjp` has them. Both have to be
            differentiable with respect to the layer's parameters, and the pull-back to the input too.
    """
    _RULES[kind] = rule


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


def _rule(network: Network) -> Rule:
    """Return how to pull back through this network: a module by what it derives its ``forward`` from."""
    if not isinstance(network, nn.Module):
        return _RULES.get(network if network in (torch.sigmoid, torch.tanh) else type(network), _by_differentiation)
    if not hooked(network) and "forward" not in vars(network):
        kind: Any
        for kind in type(network).__mro__:
            if kind in _RULES and type(network).forward is kind.forward:
                return _RULES[kind]
    return _by_differentiation


def _by_differentiation(network: Network, point: Tensor) -> tuple[Structure, PullBack]:
    inner = leaving_its_input(network)

    def floating(x: Tensor) -> Structure:
        output = inner(x)
        check_floating("the network's output", output)
        return output

    output, pull_back = differentiated(floating, point)

    def pull(cotangent: Structure) -> Tensor:
        if len(point) > 1 or all(len(leaf) == 1 for leaf in pytree.tree_leaves(cotangent)):
            return pull_back(cotangent)
        # Each cotangent becomes a batch of one.
        singles = pytree.tree_map(lambda leaf: leaf.unsqueeze(1), cotangent)
        return func.vmap(lambda single: pull_back(single).squeeze(0))(singles)

    return output, pull


def _works_in_place(network: Network) -> bool:
    if isinstance(network, Chain):
        return any(map(_works_in_place, network.parts))
    return isinstance(network, nn.Module) and any(getattr(each, "inplace", False) for each in network.modules())


def leaving_its_input(network: Network) -> Network:
    """Return the same, but not in place on its input: what is differentiated for must stay."""
    return (lambda x: network(x.clone())) if _works_in_place(network) else network


def _chain(network: Chain | nn.Sequential, point: Tensor) -> tuple[Structure, PullBack]:
    pull_backs = []
    for part in network.parts if isinstance(network, Chain) else network:
        point, pull = _rule(part)(part, point)
        pull_backs.append(pull)

    def pull_all(cotangent: Structure) -> Tensor:
        for pull in reversed(pull_backs):
            cotangent = pull(cotangent)
        return cast(Tensor, cotangent)

    return point, pull_all


def _affine(layer: Affine | nn.Linear, x: Tensor) -> tuple[Tensor, PullBack]:
    weight = layer.weight  # once: what computes it, such as spectral normalisation, may do so anew every time
    return functional.linear(x, weight, layer.bias), lambda e: (e @ weight).to(x.dtype)


def _conv2d(layer: nn.Conv2d, x: Tensor) -> tuple[Tensor, PullBack]:
    if layer.padding_mode != "zeros" or isinstance(layer.padding, str) or x.ndim != 4:
        return _by_differentiation(layer, x)
    weight, geometry = layer.weight, (layer.stride, layer.padding, layer.dilation, layer.groups)
    output = functional.conv2d(x, weight, layer.bias, *geometry)
    # Autocast has its own idea of the dtype.
    return output, lambda e: transposed_conv2d(e, weight, x.shape[2:], *geometry).to(x.dtype)


def _cast(change: Cast, x: Tensor) -> tuple[Tensor, PullBack]:
    return change(x), lambda e: e.to(x.dtype)


def _reshape(layer: nn.Flatten | nn.Unflatten, x: Tensor) -> tuple[Tensor, PullBack]:
    output = layer(x)
    if output.shape[:1] != x.shape[:1]:
        return _by_differentiation(layer, x)
    return output, lambda e: e.reshape(len(e), *x.shape[1:])


def _leaky(layer: nn.LeakyReLU | nn.ReLU, x: Tensor) -> tuple[Tensor, PullBack]:
    slope = layer.negative_slope if isinstance(layer, nn.LeakyReLU) else 0.0
    if slope < 0:
        return _elementwise(layer, x)
    output = layer(x)
    sign = output.detach()  # its own: an activation in place leaves nothing of its input
    return output, lambda e: cast(Tensor, torch.ops.aten.leaky_relu_backward(e, sign, slope, True))


def _elementwise(function: Network, x: Tensor) -> tuple[Tensor, PullBack]:
    output, pull_back = differentiated(leaving_its_input(function), x)
    slopes = pull_back(torch.ones_like(output))
    return output, lambda e: e * slopes


_RULES: dict[Any, Rule] = {
    Chain: _chain,
    nn.Sequential: _chain,
    Affine: _affine,
    Cast: _cast,
    nn.Linear: _affine,
    nn.Conv2d: _conv2d,
    nn.Flatten: _reshape,
    nn.Unflatten: _reshape,
    nn.LeakyReLU: _leaky,
    nn.ReLU: _leaky,
    torch.sigmoid: _elementwise,
    torch.tanh: _elementwise,
}
for _kind in (nn.ELU, nn.GELU, nn.Mish, nn.SELU, nn.Sigmoid, nn.SiLU, nn.Softplus, nn.Tanh, Arcsinh):
    register_pull_back(_kind, _elementwise)
