"""Claim (b): training makes the weights orthogonal (equations 18-20)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Adam

from ...core.local import LocalNetwork
from .layers import BATCH, batch, crop, linear, mean_error
from .numbers import summary

__all__ = ["orthogonality", "verdict", "weights"]

LEARNING_RATE = 3e-3
#: How near to orthonormal counts as such: root mean square deviation of a row's or column's products.
TOLERANCE = 0.05
#: Initialisations compared.
STARTS = ("default", "orthogonal")


def weights(images: Tensor, seeds: Sequence[int], steps: int) -> dict[str, Any]:
    r"""Train single linear layers by feature alignment and measure how orthogonal their weights become.

    With :math:`T = \tau = 1` and a start of zeros (equation 20) the loss is :math:`\lVert x - W^\top W x \rVert^2`.
    With :math:`k` outputs for :math:`n > k` inputs, :math:`W^\top W` has rank :math:`k` and cannot be the
    identity: :math:`\lVert W^\top W - I \rVert_F \ge \sqrt{n - k}`, with equality where the rows are
    orthonormal, :math:`W W^\top = I`. The loss is then least if they span the first :math:`k` principal
    components (uncentred), whose error comes from a singular value decomposition of the data.

    Args:
        images: in [0, 1], shape ``(N, C, H, W)``.
        seeds: of initial weights and batches.
        steps: updates.

    Returns:
        Per layer and initialisation, over the seeds: ``rows`` is :math:`\lVert W W^\top - I \rVert_F / \sqrt k`,
        ``columns`` is :math:`\lVert W^\top W - I \rVert_F / \sqrt n`, ``paper`` the same without the root,
        ``paper_bound`` what it cannot go below, ``error`` the mean of :math:`\lVert x - \hat r \rVert^2`,
        ``optimum`` the least possible one, ``blank`` that of an image of zeros.
    """
    moments = sorted({0, steps, *np.geomspace(1, steps, 24).round().astype(int).tolist()})
    found = {
        name: _layer(data, outputs, moments)
        | {start: _trained(data, outputs, start, seeds, steps, moments) for start in STARTS}
        for name, (data, outputs) in _layers(images).items()
    }
    return {
        "claim": "The loss is least where the weights are orthogonal, W^T W = I, and training leads there "
        "(equation 20), so the transposed weights are the pseudo-inverse.",
        "holds": " ".join(verdict(name, layer) for name, layer in found.items()),
        "steps": steps,
        "learning_rate": LEARNING_RATE,
        "batch": BATCH,
        "layers": found,
    }


def _layers(images: Tensor) -> dict[str, tuple[Tensor, int]]:
    """Return samples, shape ``(N, n)``, and the number of outputs of every layer that is trained."""
    flat = images.flatten(1)
    crops = crop(images, 8)
    white = torch.randn(4096, 32, generator=torch.Generator().manual_seed(0))
    return {
        "images, fewer outputs": (flat, max(1, min(64, flat.shape[1] // 2))),
        "crops, as many outputs": (crops, crops.shape[1]),
        "crops, more outputs": (crops, crops.shape[1] * 3 // 2),
        "white noise, as many outputs": (white, white.shape[1]),
    }


def _layer(data: Tensor, outputs: int, moments: list[int]) -> dict[str, Any]:
    """Return what a layer can reach on these samples."""
    inputs = data.shape[1]
    values = np.linalg.svd(data.double().numpy(), compute_uv=False)
    return {
        "inputs": inputs,
        "outputs": outputs,
        "samples": len(data),
        "blank": float((values**2).sum() / len(data)),
        "optimum": float((values[outputs:] ** 2).sum() / len(data)),
        "paper_bound": math.sqrt(max(0, inputs - outputs)),
        "steps": moments,
    }


def _trained(
    data: Tensor, outputs: int, start: str, seeds: Sequence[int], steps: int, moments: Sequence[int]
) -> dict[str, Any]:
    """Return the measurements of one layer with one initialisation, over the seeds."""
    runs = []
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        layer = linear(data.shape[1], outputs, start, generator)
        runs.append(_train(layer, data, steps, moments, generator))
    return {
        key: {
            "before": summary([run[key][0] for run in runs]),
            "after": summary([run[key][-1] for run in runs]),
            "history": [run[key] for run in runs],
        }
        for key in runs[0]
    }


def _train(
    layer: nn.Linear, data: Tensor, steps: int, moments: Sequence[int], generator: torch.Generator
) -> dict[str, list[float]]:
    """Train by Algorithm 2 with Adam, its rate falling linearly to 0, and measure after the given updates."""
    network = LocalNetwork([layer], (layer.in_features,))
    optimizer = Adam(network.parameters(), LEARNING_RATE)
    history: dict[str, list[float]] = {"rows": [], "columns": [], "paper": [], "error": []}
    for step in range(steps + 1):
        if step in moments:
            rows, paper = orthogonality(layer.weight.detach())
            history["rows"].append(rows / math.sqrt(layer.out_features))
            history["columns"].append(paper / math.sqrt(layer.in_features))
            history["paper"].append(paper)
            history["error"].append(mean_error(network, data))
        if step < steps:
            optimizer.param_groups[0]["lr"] = LEARNING_RATE * (1 - step / steps)
            network.local_step(batch(data, generator), [optimizer])
    return history


def orthogonality(weight: Tensor) -> tuple[float, float]:
    r"""Return :math:`\lVert W W^\top - I_k \rVert_F` and :math:`\lVert W^\top W - I_n \rVert_F`, ``weight`` (k, n).

    The traces of :math:`(W W^\top)^2` and :math:`(W^\top W)^2` are the same, so the squares of the two differ by
    :math:`n - k`: only the smaller matrix is built.
    """
    outputs, inputs = weight.shape
    wide = weight.double() if outputs <= inputs else weight.double().T
    small = (wide @ wide.T - torch.eye(len(wide), dtype=torch.float64)).square().sum()
    large = small + abs(inputs - outputs)
    rows, columns = (small, large) if outputs <= inputs else (large, small)
    return float(rows.sqrt()), float(columns.sqrt())


def verdict(name: str, layer: Mapping[str, Any]) -> str:
    """Describe the results of one layer in a sentence.

    Args:
        name: of the layer.
        layer: an entry of ``layers`` that :func:`weights` returns.
    """
    fewer = layer["outputs"] < layer["inputs"]
    said = [_of_fewer(start, layer) if fewer else _of_enough(start, layer) for start in STARTS]
    limit = "W^T W = I is impossible; " if fewer else ""
    return f"{name} ({layer['inputs']} -> {layer['outputs']}): {limit}{'; '.join(said)}."


# Orthogonal weights have the property before any training: what they had is said too.


def _of_fewer(start: str, layer: Mapping[str, Any]) -> str:
    after = {key: layer[start][key]["after"]["mean"] for key in ("rows", "paper", "error")}
    return (
        f"from {start} weights the rows are {'' if after['rows'] < TOLERANCE else 'NOT '}orthonormal (W W^T = I to "
        f"{after['rows']:.2g}, before training to {layer[start]['rows']['before']['mean']:.2g}), "
        f"||W^T W - I|| = {after['paper']:.4g} where {layer['paper_bound']:.4g} is the least possible, the error "
        f"{after['error'] / max(layer['optimum'], 1e-12):.4g} times that of the principal components"
    )


def _of_enough(start: str, layer: Mapping[str, Any]) -> str:
    after = {key: layer[start][key]["after"]["mean"] for key in ("columns", "error")}
    return (
        f"from {start} weights W^T W = I is {'' if after['columns'] < TOLERANCE else 'NOT '}reached "
        f"(to {after['columns']:.2g}, before training to {layer[start]['columns']['before']['mean']:.2g}), "
        f"the error {after['error'] / layer['blank']:.2g} of an empty image's"
    )
