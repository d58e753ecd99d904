r"""Layer-local training (Algorithm 2) and reconstruction layer by layer (Algorithm 3).

Every layer learns to predict its own input from its own output, and nothing else: the loss of layer
:math:`l` is the distance between its input and the feature of its output,

.. math::
    C_l = \lVert x - \hat r \rVert^2, \qquad \hat r = \mathrm{align}(E_l, E_l(x), r^0)

whose graph, gradient and optimiser step are finished and freed before the next layer begins. Backwards, a
non-linear layer is undone exactly, by its inverse.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer

from .alignment import align

__all__ = ["Arcsinh", "LocalNetwork", "register_inverse"]

Inverse = Callable[[nn.Module, Tensor], Tensor]


class Arcsinh(nn.Module):
    r"""Inverse hyperbolic sine, :math:`\ln(x + \sqrt{1 + x^2})`: invertible, unbounded, smooth (§3.4)."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the inverse hyperbolic sine of each element."""
        return torch.asinh(x)


#: How to undo layers that have no weights to learn, by type.
_INVERSES: dict[type[nn.Module], Inverse] = {
    Arcsinh: lambda layer, y: torch.sinh(y),
    nn.Tanh: lambda layer, y: torch.atanh(y),
    nn.Sigmoid: lambda layer, y: torch.logit(y),
    nn.LeakyReLU: lambda layer, y: torch.where(y < 0, y / layer.negative_slope, y),  # type: ignore[operator]
    nn.Identity: lambda layer, y: y,
}


def register_inverse(kind: type[nn.Module], inverse: Inverse) -> None:
    """Make an activation usable in a :class:`LocalNetwork`.

    Args:
        kind: type of the activation module.
        inverse: from the module and its output to its input, elementwise or not, without loss.
    """
    _INVERSES[kind] = inverse


class LocalNetwork(nn.Sequential):
    r"""A chain of layers that trains layer by layer and runs backwards layer by layer.

    Args:
        layers: ``Linear`` and ``Conv2d`` (which learn), ``Flatten`` (from its default dimension on), and
            invertible activations: :class:`Arcsinh`, ``Tanh``, ``Sigmoid``, ``LeakyReLU``, ``Identity``, and
            those of :func:`register_inverse`.
        input_shape: shape of one input, without the batch.
        steps: :math:`T`, gradient steps of each layer's feature.
        step_size: :math:`\tau`.

    With ``steps = 1`` (and the start at zero, as always here) a layer's feature is
    :math:`\tau W^\top (z - b)` in closed form, a transposed layer, and with :math:`\tau = 1` its loss
    :math:`\lVert x - W^\top W x \rVert^2` needs no second derivative.

    Raises:
        TypeError: a layer that can be neither aligned nor inverted, by position and type.
        ValueError: shapes of layers that do not fit each other or ``input_shape``.
    """

    def __init__(
        self, layers: Sequence[nn.Module], input_shape: Sequence[int], *, steps: int = 1, step_size: float = 1.0
    ) -> None:
        super().__init__(*layers)
        self.steps, self.step_size = steps, step_size
        self.input_shape = tuple(input_shape)
        for index, layer in enumerate(self):
            if not (_learns(layer) or isinstance(layer, nn.Flatten) or type(layer) in _INVERSES):
                raise TypeError(
                    f"layers[{index}]: {type(layer).__name__} is neither a Linear, Conv2d or Flatten nor an activation "
                    "with a known inverse; register_inverse() adds one"
                )
        #: Shape of the input of every layer, and of the output of the last, without the batch.
        self.shapes: list[tuple[int, ...]] = [self.input_shape]
        for index, layer in enumerate(self):
            try:
                with torch.no_grad():
                    shape = layer(torch.zeros(1, *self.shapes[-1])).shape[1:]
            except RuntimeError as error:
                place = f"layers[{index}]: {type(layer).__name__}"
                raise ValueError(
                    f"{place} does not take an input of shape {self.shapes[-1]}: {str(error).splitlines()[0]}"
                ) from None
            self.shapes.append(tuple(shape))

    def learning_layers(self) -> Iterator[nn.Module]:
        """Yield the layers that have weights, first to last: one optimiser belongs to each."""
        return (layer for layer in self if _learns(layer))

    def local_step(self, x: Tensor, optimizers: Sequence[Optimizer]) -> tuple[Tensor, list[Tensor]]:
        """Take one step of Algorithm 2: each layer in turn learns to predict its input from its output.

        Nothing of one layer, neither activation, graph nor gradient, is alive while another learns, but for
        the activation that goes from one to the next.

        Args:
            x: batch of inputs, shape ``(N, *input_shape)``.
            optimizers: one for each of :meth:`learning_layers`, of that layer's parameters.

        Returns:
            The output, detached, and each learning layer's loss: mean over the batch of the squared distance,
            shape ``()``.

        Raises:
            ValueError: another number of optimisers than learning layers, or inputs of another shape.
        """
        learning = list(self.learning_layers())
        if len(optimizers) != len(learning):
            raise ValueError(f"optimizers: expected {len(learning)}, one a learning layer, got {len(optimizers)}")
        if tuple(x.shape[1:]) != self.input_shape:
            raise ValueError(f"x: expected shape (N, {', '.join(map(str, self.input_shape))}), got {tuple(x.shape)}")
        x, losses, waiting = x.detach(), [], iter(optimizers)
        for layer in self:
            if _learns(layer):
                # The output that goes on is that of the weights before the step (Algorithm 2, lines 2 and 14).
                output, loss = self._learn(layer, x, next(waiting))
                losses.append(loss)
            else:
                with torch.no_grad():
                    output = layer(x)
            x = output
        return x, losses

    def _learn(self, layer: nn.Module, x: Tensor, optimizer: Optimizer) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            output = layer(x)
            feature = self._feature(layer, output, tuple(x.shape[1:]))
            loss = (x - feature).square().flatten(1).sum(1).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return output.detach(), loss.detach()

    @torch.no_grad()
    def invert(self, z: Tensor) -> Tensor:
        """Reconstruct the input of an output, from the last layer to the first (Algorithm 3).

        Args:
            z: shape ``(N, *output_shape)``.

        Returns:
            Shape ``(N, *input_shape)``.

        Raises:
            ValueError: ``z`` of another shape.
        """
        if tuple(z.shape[1:]) != self.shapes[-1]:
            raise ValueError(f"z: expected shape (N, {', '.join(map(str, self.shapes[-1]))}), got {tuple(z.shape)}")
        for layer, shape in zip(reversed(list(self)), reversed(self.shapes[:-1]), strict=True):
            if _learns(layer):
                z = self._feature(layer, z, shape)
            elif isinstance(layer, nn.Flatten):
                z = z.reshape(len(z), *shape)
            else:
                z = _INVERSES[type(layer)](layer, z)
        return z

    def _feature(self, layer: nn.Module, output: Tensor, shape: tuple[int, ...]) -> Tensor:
        """Return the feature of a learning layer's output from zero."""
        if self.steps == 1 and _has_closed_form(layer):
            return self.step_size * _transposed(layer, output, shape)
        start = output.new_zeros(1, *shape)
        return align(layer, output, start, steps=self.steps, step_size=self.step_size, check=False)


def _learns(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Linear | nn.Conv2d)


def _has_closed_form(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Linear) or (
        isinstance(layer, nn.Conv2d) and layer.padding_mode == "zeros" and not isinstance(layer.padding, str)
    )


def _transposed(layer: nn.Module, output: Tensor, shape: tuple[int, ...]) -> Tensor:
    r"""Return :math:`W^\top (z - b)`: one step of size 1 from zero, without evaluating the layer."""
    if isinstance(layer, nn.Linear):
        return (output if layer.bias is None else output - layer.bias) @ layer.weight
    assert isinstance(layer, nn.Conv2d)
    assert not isinstance(layer.padding, str)
    centred = output if layer.bias is None else output - layer.bias.view(-1, 1, 1)
    # What the stride leaves over at the far border.
    left_over = [
        size - ((length - 1) * stride - 2 * padding + dilation * (kernel - 1) + 1)
        for size, length, stride, padding, dilation, kernel in zip(
            shape[1:], output.shape[2:], layer.stride, layer.padding, layer.dilation, layer.kernel_size, strict=True
        )
    ]
    return functional.conv_transpose2d(
        centred, layer.weight, None, layer.stride, layer.padding, left_over, layer.groups, layer.dilation
    )
