"""What must hold for every architecture: gradients through ``align``, and the residuals of ``invert``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from reference import algorithm_1, parts
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils import _pytree as pytree

from feature_alignment import Inversion, align, invert

from .zoo import Architecture, Network

__all__ = ["STEP_SIZE", "gradient_difference", "inverted", "true_residual"]

STEP_SIZE = 0.05
SAMPLES = 2


def gradient_difference(architecture: Architecture, steps: int, shared: bool) -> float:
    """Return how far gradients through ``align`` are from Algorithm 1's, relative to the largest entry of each.

    With respect to the weights, the start and the target, of a loss of what is added to the start, which would outweigh
    it. Networks may keep tensors with a graph, hence one for either.
    """
    network, twin = architecture.build(), architecture.build()
    images, start = architecture.inputs(SAMPLES, 3), architecture.inputs(1 if shared else SAMPLES, 4)
    start.requires_grad_()
    with torch.no_grad():
        target = pytree.tree_map(lambda part: None if part is None else part.clone().requires_grad_(), network(images))
    feature = align(network, target, start, steps=steps, step_size=STEP_SIZE)
    ours = _gradients(network, feature, images, start, target)
    with _twice_differentiable():
        twin = architecture.equivalent(twin)
        feature = algorithm_1(twin, target, start, steps=steps, step_size=STEP_SIZE)
        wanted = _gradients(twin, feature, images, start, target)
    return max(_relative_difference(one, other) for one, other in zip(ours, wanted, strict=True))


@contextmanager
def _twice_differentiable() -> Iterator[None]:
    """Have PyTorch run attention and recurrent networks as it can differentiate them twice."""
    fast_path, mkldnn = torch.backends.mha.get_fastpath_enabled(), torch._C._get_mkldnn_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    torch._C._set_mkldnn_enabled(False)  # as torch.backends.mkldnn.flags, which warns of the CPU
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
        torch._C._set_mkldnn_enabled(mkldnn)


def _gradients(network: Network, feature: Tensor, images: Tensor, start: Tensor, target: Any) -> list[list[Tensor]]:
    weights = [each for each in network.parameters() if each.requires_grad] if isinstance(network, nn.Module) else []
    loss = (images - (feature - start)).square().sum()
    others = [start, *parts(target)]
    found = torch.autograd.grad(loss, [*others, *weights], allow_unused=True, materialize_grads=True)
    return [list(found[:1]), list(found[1 : len(others)]), list(found[len(others) :])]


def _relative_difference(ours: list[Tensor], wanted: list[Tensor]) -> float:
    largest = max((float(each.abs().max()) for each in wanted), default=0.0)
    difference = max((float((one - other).abs().max()) for one, other in zip(ours, wanted, strict=True)), default=0.0)
    return difference / largest if largest else difference


def inverted(architecture: Architecture, tolerance: float = 1e-2) -> tuple[Network, Any, Inversion]:
    """Search for inputs with the outputs of two others, from a third; return network, target and result."""
    network = architecture.build()
    with torch.no_grad():
        target = network(architecture.inputs(SAMPLES, 3))
    return network, target, invert(network, target, architecture.inputs(1, 4), tolerance, 1000)


@torch.no_grad()
def true_residual(network: Network, target: Any, found: Inversion) -> Tensor:
    """Return the relative residuals of all that the network puts out, evaluated at what was found."""
    output = network(found.input.clone())
    difference = sum(
        (a - b).square().reshape(len(a), -1).sum(1) for a, b in zip(parts(output), parts(target), strict=True)
    )
    return (difference / sum(part.square().reshape(len(part), -1).sum(1) for part in parts(target))).sqrt()
