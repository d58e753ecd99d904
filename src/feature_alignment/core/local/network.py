"""A chain of layers that is trained layer by layer and reconstructs layer by layer."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ..alignment import align
from .inverses import INVERSES
from .layers import (
    Learning,
    accumulate_weight_gradient,
    centred,
    has_closed_form,
    is_affine,
    learns,
    linear_part,
    over_places,
    pull_back,
    without_bias,
)

__all__ = ["LocalNetwork"]


class LocalNetwork(nn.Sequential):
    r"""A chain of layers that is trained layer by layer and reconstructs layer by layer.

    Args:
        layers: ``Linear`` and ``Conv2d`` (which learn), ``Flatten`` (from its default dimension on), and
            invertible activations: :class:`Arcsinh` (whose inverse returns at most 1e6), ``Tanh``, ``Sigmoid``,
            ``LeakyReLU``, ``Identity``, and those of :func:`register_inverse`.
        input_shape: shape of one input, without the batch.
        steps: :math:`T`, gradient steps of each layer's feature.
        step_size: :math:`\tau`.

    With ``steps = 1`` (and the start at zero, as always here) a layer's feature is
    :math:`\tau W^\top (z - b)` in closed form, a transposed layer, and with :math:`\tau = 1` its loss
    :math:`\lVert x - W^\top W x \rVert^2` needs no second derivative.

    Raises:
        TypeError: a layer that can be neither aligned nor inverted, by position and type.
        ValueError: layers whose shapes do not fit each other or ``input_shape``; a LeakyReLU without an inverse;
            ``steps`` or ``step_size`` out of range.
    """

    def __init__(
        self, layers: Sequence[nn.Module], input_shape: Sequence[int], *, steps: int = 1, step_size: float = 1.0
    ) -> None:
        super().__init__(*layers)
        if steps < 1:
            raise ValueError(f"steps: expected at least 1, got {steps}")
        if not 0 < step_size < math.inf:
            raise ValueError(f"step_size: expected a finite number greater than 0, got {step_size}")
        self.steps, self.step_size = steps, step_size
        self.input_shape = tuple(input_shape)
        for index, layer in enumerate(self):
            if not (learns(layer) or isinstance(layer, nn.Flatten) or type(layer) in INVERSES):
                raise TypeError(
                    f"layers[{index}]: {type(layer).__name__} is neither a Linear, Conv2d or Flatten nor an activation "
                    "with a known inverse; register_inverse() adds one"
                )
            if isinstance(layer, nn.LeakyReLU) and not layer.negative_slope > 0:
                raise ValueError(
                    f"layers[{index}]: expected a LeakyReLU of a slope above 0, which has an inverse, got {layer}"
                )
        #: Shape of the input of every layer, and of the output of the last, without the batch.
        self.shapes: list[tuple[int, ...]] = [self.input_shape]
        for index, layer in enumerate(self):
            self.shapes.append(self._output_shape(index, layer))

    @torch.no_grad()
    def _output_shape(self, index: int, layer: nn.Module) -> tuple[int, ...]:
        like = next(self.parameters(), torch.empty(()))  # layers may be in float64 or on another device
        try:
            return tuple(layer(like.new_zeros(1, *self.shapes[-1])).shape[1:])
        except RuntimeError as error:
            raise ValueError(
                f"layers[{index}]: {type(layer).__name__} does not take an input of shape {self.shapes[-1]}: "
                f"{str(error).splitlines()[0]}"
            ) from None

    def writes_to_its_input(self) -> bool:
        """Whether a layer changes the network's input in place, which those before it pass on as it is or as a view."""
        for layer in self:
            if getattr(layer, "inplace", False):
                return True
            if not isinstance(layer, nn.Flatten | nn.Identity):
                return False
        return False

    def learning_layers(self) -> Iterator[Learning]:
        """Yield the layers that have weights, first to last: one optimiser belongs to each."""
        return (layer for layer in self if learns(layer))

    def local_step(
        self, x: Tensor, optimizers: Sequence[Optimizer], *, micro_batch: int | None = None
    ) -> tuple[Tensor, list[Tensor]]:
        """Make one update by Algorithm 2: each layer in turn learns to predict its input from its output.

        While a layer learns, no activation, graph or gradient of another is in memory, except the activation
        passed from one to the next.

        Args:
            x: batch of inputs, shape ``(N, *input_shape)``.
            optimizers: one per layer of :meth:`learning_layers`, for that layer's parameters.
            micro_batch: process each layer's batch in chunks of this size (larger for layers whose weights
                dominate). Gradients are unchanged; memory is needed for one chunk, besides one copy of the
                activations passed on. By default the whole batch is one chunk.

        Returns:
            The output, detached, and the loss of each learning layer: the squared distance, averaged over the
            batch, shape ``()``.

        Raises:
            ValueError: another number of optimisers than learning layers, or one that has no parameter of its layer;
                inputs of another shape, or none; a ``micro_batch`` below 1.
        """
        learning = list(self.learning_layers())
        if len(optimizers) != len(learning):
            raise ValueError(f"optimizers: expected {len(learning)}, one a learning layer, got {len(optimizers)}")
        if tuple(x.shape[1:]) != self.input_shape:
            raise ValueError(f"x: expected shape (N, {', '.join(map(str, self.input_shape))}), got {tuple(x.shape)}")
        if micro_batch is not None and micro_batch < 1:
            raise ValueError(f"micro_batch: expected at least 1, got {micro_batch}")
        if not len(x):
            raise ValueError("x: expected at least one input, got none")
        for number, (learner, optimizer) in enumerate(zip(learning, optimizers, strict=True)):
            own = {id(each) for each in learner.parameters()}
            if own.isdisjoint(id(each) for group in optimizer.param_groups for each in group["params"]):
                raise ValueError(f"optimizers[{number}]: has no parameter of {learner}; expected one a layer, in order")
        x = x.detach().clone() if self.writes_to_its_input() else x.detach()
        chunks, losses, waiting = [x], [], iter(optimizers)
        for layer in self:
            if learns(layer):
                if micro_batch is not None:
                    _regroup(chunks, max(micro_batch, layer.weight.numel() // chunks[0][0].numel()))
                # The next layer's input is computed with the weights before the update (Algorithm 2, lines 2, 14).
                losses.append(self._learn(layer, chunks, next(waiting)))
            else:
                with torch.no_grad():
                    _replace(chunks, layer)
        _regroup(chunks, len(x))
        return chunks[0], losses

    def _learn(self, layer: Learning, chunks: list[Tensor], optimizer: Optimizer) -> Tensor:
        """Update a layer by the loss of all chunks of its input, and replace each chunk by its output."""
        batch, losses = sum(map(len, chunks)), []
        closed = self.steps == 1 and is_affine(layer) and has_closed_form(layer)
        closed = closed and layer.weight.is_leaf and layer.weight.requires_grad and not _has_hooks(layer.weight)
        # Under autocast the gradients need its casts of weights and inputs undone, which autograd does.
        closed = closed and not torch.is_autocast_enabled(chunks[0].device.type)
        accumulate = self._accumulate_in_closed_form if closed else self._accumulate

        def advance(x: Tensor) -> Tensor:
            output, loss = accumulate(layer, x, batch)
            losses.append(loss)
            return output

        optimizer.zero_grad(set_to_none=True)
        _replace(chunks, advance)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return torch.stack(losses).sum()

    def _accumulate(self, layer: Learning, x: Tensor, batch: int) -> tuple[Tensor, Tensor]:
        """Add a chunk's share of the gradient to the layer's; return its output and its share of the loss."""
        with torch.enable_grad():
            output, distance = self.layer_distance(layer, x)
            loss = distance / batch
        if loss.requires_grad:  # not so where the layer's weight is frozen: the bias cancels
            loss.backward()
        return output.detach(), loss.detach()

    def layer_distance(self, layer: Learning, x: Tensor) -> tuple[Tensor, Tensor]:
        r"""Return a learning layer's output and :math:`\lVert x - \hat r \rVert^2`, summed over the batch.

        Both are differentiable; :meth:`local_step` computes the same without a graph where there is a closed form.
        """
        output, feature = self.there_and_back(layer, x)
        return output, (x - feature).square().sum()

    def there_and_back(self, layer: Learning, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return a learning layer's output and its feature, both differentiable."""
        shape = tuple(x.shape[1:])
        if not is_affine(layer):
            output = layer(x)
            return output, self._feature(layer, output, shape)
        # The bias cancels; its gradient, by its two uses, would be their rounding, of which Adam makes whole steps.
        product = linear_part(layer, x)
        output = product if layer.bias is None else product + over_places(layer.bias, layer)
        return output, self._feature_of_product(layer, product, shape)

    @torch.no_grad()
    def _accumulate_in_closed_form(self, layer: Learning, x: Tensor, batch: int) -> tuple[Tensor, Tensor]:
        r"""Do the same without a graph, for a one-step feature: every tensor is freed after its last use.

        With :math:`y = W x` and the error :math:`e = \tau W^\top y - x` the gradient of
        :math:`\lVert e \rVert^2` is :math:`2 \tau \, (y e^\top + (W e) x^\top)`, and 0 for the bias.
        """
        output = layer(x)
        y = centred(layer, output)
        error = pull_back(layer, y, tuple(x.shape[1:])).mul_(self.step_size).sub_(x)
        loss = torch.linalg.vector_norm(error).square() / batch
        error.mul_(2 * self.step_size / batch)
        accumulate_weight_gradient(layer, error, y)
        del y
        accumulate_weight_gradient(layer, x, linear_part(layer, error))
        return output, loss

    @torch.no_grad()
    def run_backwards(self, z: Tensor) -> Tensor:
        """Reconstruct the input from the output, from the last layer to the first (Algorithm 3).

        Args:
            z: shape ``(N, *output_shape)``.

        Returns:
            Shape ``(N, *input_shape)``.

        Raises:
            ValueError: ``z`` of another shape.
        """
        if tuple(z.shape[1:]) != self.shapes[-1]:
            raise ValueError(f"z: expected shape (N, {', '.join(map(str, self.shapes[-1]))}), got {tuple(z.shape)}")
        return self.backwards(z)

    def backwards(self, z: Tensor, layers: int | None = None) -> Tensor:
        """Run the first ``layers`` layers backwards, by default all; differentiable.

        Args:
            z: the last of these layers' output, shape ``(N, ...)``.
            layers: their number.

        Returns:
            Shape ``(N, *input_shape)``.
        """
        for layer, shape in reversed(list(zip(self, self.shapes, strict=False))[:layers]):
            if learns(layer):
                z = self._feature(layer, z, shape)
            elif isinstance(layer, nn.Flatten):
                z = z.reshape(z.shape[0], *shape)
            else:
                z = INVERSES[type(layer)](layer, z)
        return z

    def _feature(self, layer: Learning, output: Tensor, shape: tuple[int, ...]) -> Tensor:
        """Return the feature of a learning layer's output, with start zero."""
        if is_affine(layer):
            return self._feature_of_product(layer, centred(layer, output), shape)
        start = output.new_zeros(1, *shape)
        return align(layer, output, start, steps=self.steps, step_size=self.step_size, check=False)

    def _feature_of_product(self, layer: Learning, product: Tensor, shape: tuple[int, ...]) -> Tensor:
        """Return the feature of an affine layer's output minus its bias."""
        if self.steps == 1 and has_closed_form(layer):
            return self.step_size * pull_back(layer, product, shape)
        start = product.new_zeros(1, *shape)
        return align(without_bias(layer), product, start, steps=self.steps, step_size=self.step_size, check=False)


def _has_hooks(weight: Tensor) -> bool:
    """Whether something is done with the gradient of a weight, as masks of pruning do."""
    return bool(weight._backward_hooks or getattr(weight, "_post_accumulate_grad_hooks", None))


def _replace(chunks: list[Tensor], function: Callable[[Tensor], Tensor]) -> None:
    """Apply a function chunk by chunk, so that the old and the new batch are never in memory as a whole."""
    for index in range(len(chunks)):
        chunks[index] = function(chunks[index])


def _regroup(chunks: list[Tensor], samples: int) -> None:
    """Divide the batch into chunks of another size: larger ones are copies, smaller ones views."""
    if len(chunks) > 1 and len(chunks[0]) < samples:
        chunks[:] = [torch.cat(chunks)]
    chunks[:] = [part for chunk in chunks for part in chunk.split(samples)]
