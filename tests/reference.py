"""The one naive implementation of the paper's algorithms that all tests compare with.

Algorithm 1 as a reader would type it: one sample at a time, from a start of its own, a loss and
``torch.autograd.grad(create_graph=True)``, in float64 where the caller's tensors are. Algorithms 2 and 3 a layer at a
time.
Nothing of the package is used.
"""

from __future__ import annotations

import torch
from torch import nn


def parts(structure):
    """The tensors of a nested tuple, list or dict, in order."""
    if isinstance(structure, torch.Tensor):
        return [structure]
    if structure is None:
        return []
    values = structure.values() if hasattr(structure, "values") else structure
    return [part for value in values for part in parts(value)]


def half_squared_distance(outputs, targets):
    pairs = zip(parts(outputs), parts(targets), strict=True)
    return sum(0.5 * (output - target).square().sum() for output, target in pairs)


def algorithm_1(network, target, start, *, steps=1, step_size=1.0, max_step=None, squash=None):
    """The features of every sample (equation 2), differentiable to any order.

    Args:
        network: from a batch to a tensor or a structure of tensors.
        target: of that structure, ``N`` samples.
        start: ``(1, ...)`` or ``(N, ...)``; it may require a gradient.
        steps, step_size, max_step, squash: as for ``align``; numbers, or one per step.
    """

    def per_step(value):
        return value if isinstance(value, list) or (hasattr(value, "ndim") and value.ndim) else [value] * steps

    features = []
    for sample in range(len(parts(target)[0])):
        wanted = [part[sample : sample + 1] for part in parts(target)]
        r = start[sample : sample + 1] if len(start) > 1 else start
        if not r.requires_grad:
            r = r.clone().requires_grad_()
        for size, bound in zip(per_step(step_size), per_step(max_step), strict=True):
            loss = half_squared_distance(network(r if squash is None else squash(r)), wanted)
            move = size * torch.autograd.grad(loss, r, create_graph=True)[0]
            r = r - (move if bound is None else move * torch.clamp(bound / move.norm(), max=1))
        features.append(r if squash is None else squash(r))
    return torch.cat(features)


def gradients(network, images, start, *, parameters=None, **options):
    """Feature of the images' own outputs, and the gradients of its squared error, as Algorithm 1 trains by."""
    parameters = list(network.parameters()) if parameters is None else parameters
    feature = algorithm_1(network, network(images), start, **options)
    return feature, torch.autograd.grad((images - feature).square().sum(), parameters, allow_unused=True)


def algorithm_2(layers, x, rate, *, steps=1, step_size=1.0):
    """One update of every layer by plain gradient descent; the output, and the mean loss of each layer that learns."""
    losses = []
    for layer in layers:
        z = layer(x)
        weights = list(layer.parameters())
        if weights:
            r = algorithm_1(layer, z, torch.zeros_like(x), steps=steps, step_size=step_size)
            losses.append((x - r).square().sum() / len(x))
            found = torch.autograd.grad(losses[-1], weights, allow_unused=True)
            with torch.no_grad():
                for weight, gradient in zip(weights, found, strict=True):
                    if gradient is not None:
                        weight -= rate * gradient
        x = z.detach()
    return x, losses


def algorithm_3(layers, shapes, output, *, steps=1, step_size=1.0):
    """The way back: a layer that learns by its feature from zeros, arcsinh by sinh, flatten by its input's shape.

    Args:
        layers: first to last.
        shapes: of the input of each layer, without the batch.
        output: of the last layer.
    """
    for layer, shape in zip(reversed(layers), reversed(shapes), strict=True):
        if isinstance(layer, nn.Flatten):
            output = output.reshape(len(output), *shape)
        elif list(layer.parameters()):
            start = torch.zeros(len(output), *shape, dtype=output.dtype)
            output = algorithm_1(layer, output, start, steps=steps, step_size=step_size).detach()
        else:
            output = torch.sinh(output)
    return output
