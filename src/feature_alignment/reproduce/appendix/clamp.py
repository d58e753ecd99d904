r"""Claim (c): clamping the weights to :math:`[-\sqrt 2, \sqrt 2]` keeps the training stable (equation 7)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Adam

from ...core.local import LocalNetwork
from .layers import BATCH, BOUND, batch, crop, linear, mean_error
from .numbers import summary

__all__ = ["BOUNDS", "GAINS", "clamp", "over_seeds", "train_bounded"]

LEARNING_RATE = 1e-2
#: Factors of the initial weights.
GAINS = (1, 2, 4, 8)
#: Numbers of alignment steps, T.
UNROLLS = (1, 3)


def _free(weight: Tensor) -> None:
    """Leave the weights as they are."""


def _entries(weight: Tensor) -> None:
    """Equation 7."""
    weight.clamp_(-BOUND, BOUND)


def _spectral(weight: Tensor) -> None:
    """Scale the matrix down until its largest singular value obeys the bound, for comparison."""
    weight.mul_((BOUND / torch.linalg.matrix_norm(weight, 2)).clamp(max=1))


#: The bounds compared: each changes the weights in place.
BOUNDS: dict[str, Callable[[Tensor], None]] = {"none": _free, "entries": _entries, "spectral": _spectral}


def clamp(images: Tensor, seeds: Sequence[int], steps: int) -> dict[str, Any]:
    r"""Train from weights of growing scale without a bound, with equation 7, and with one on the singular values.

    Three layers: a single weight, as in the paper's derivation; the 3 x 3 patches that a first convolution sees
    (9 inputs, 32 outputs); crops of 8 x 8 pixels (64 inputs, 64 outputs). The bound is applied before every update
    and once after the last.

    Args:
        images: in [0, 1], shape ``(N, C, H, W)``.
        seeds: of initial weights and batches.
        steps: updates.

    Returns:
        Per layer and :math:`T`, by bound and gain of the initial weights (PyTorch's default, times the gain): the
        share of runs that ``failed``, their final error not finite or above that of an empty image, the final
        ``error``, and the largest singular value before, after the first bound, and at the end. ``touched`` is the
        largest share of weights outside of the bound before any update.
    """
    patches, crops = _patches(images), crop(images, 8)
    layers = {
        "one weight": (patches[:, patches.shape[1] // 2 :][:, :1], 1),
        "3x3 patches": (patches, 32),
        "8x8 crops": (crops, crops.shape[1]),
    }
    found = {name: _layer(data, outputs, seeds, steps) for name, (data, outputs) in layers.items()}
    return {
        "claim": "Beyond w^2 = 2 the loss is unstable; clamping every weight to [-sqrt 2, sqrt 2] prevents it "
        "(equation 7).",
        "holds": " ".join(_verdict(name, layer, len(seeds)) for name, layer in found.items()),
        "steps": steps,
        "learning_rate": LEARNING_RATE,
        "batch": BATCH,
        "layers": found,
    }


def _patches(images: Tensor) -> Tensor:
    """Return up to 3 x 3 pixels of the first channel that are not all zero, of the first images, shape ``(N, 9)``."""
    side = min(3, *images.shape[2:])
    patches = nn.functional.unfold(images[:200, :1], side).movedim(1, 2).flatten(0, 1)
    kept = patches[patches.sum(1) > 0]
    return kept if len(kept) else patches


def _layer(data: Tensor, outputs: int, seeds: Sequence[int], steps: int) -> dict[str, Any]:
    inputs, blank = data.shape[1], float(data.double().square().sum(1).mean())

    def cell(unroll: int, bound: str, gain: float) -> dict[str, Any]:
        return over_seeds([train_bounded(data, outputs, gain, unroll, bound, seed, steps) for seed in seeds], blank)

    return {
        "inputs": inputs,
        "outputs": outputs,
        "blank": blank,
        "gain_that_is_clamped": BOUND * math.sqrt(inputs),  # the default weights are uniform up to 1 / sqrt(n)
        **{
            f"T={unroll}": {bound: {str(gain): cell(unroll, bound, gain) for gain in GAINS} for bound in BOUNDS}
            for unroll in UNROLLS
        },
    }


def train_bounded(
    data: Tensor, outputs: int, gain: float, unroll: int, bound: str, seed: int, steps: int
) -> dict[str, float]:
    """Train one layer under a bound.

    Args:
        data: samples, shape ``(N, n)``.
        outputs: of the layer.
        gain: of its initial weights.
        unroll: alignment steps, T.
        bound: a name in :data:`BOUNDS`.
        seed: of weights and batches.
        steps: updates.

    Returns:
        As :func:`clamp`, of this one run.
    """
    generator = torch.Generator().manual_seed(seed)
    layer = linear(data.shape[1], outputs, "default", generator, gain)
    network = LocalNetwork([layer], (layer.in_features,), steps=unroll)
    optimizer = Adam(network.parameters(), LEARNING_RATE)
    weight = layer.weight.detach()  # the same memory
    run = {"sigma_before": _top(weight), "touched": 0.0}
    for step in range(steps + 1):
        run["touched"] = max(run["touched"], float((weight.abs() > BOUND).float().mean()))
        BOUNDS[bound](weight)
        if step == 0:
            run["sigma_bound"] = _top(weight)
        if step < steps:
            network.local_step(batch(data, generator), [optimizer])
    return {**run, "sigma_after": _top(weight), "error": mean_error(network, data)}


def _top(weight: Tensor) -> float:
    return float(torch.linalg.matrix_norm(weight, 2))


def over_seeds(runs: Sequence[Mapping[str, float]], blank: float) -> dict[str, Any]:
    """Summarise runs of :func:`train_bounded`; one ``failed`` if its error is not finite or above ``blank``."""
    return {
        "failed": fmean(not run["error"] <= blank for run in runs),
        **{key: summary([run[key] for run in runs]) for key in runs[0]},
    }


def _verdict(name: str, layer: Mapping[str, Any], seeds: int) -> str:
    """Describe the results of one layer in a sentence."""
    cells = {
        bound: [layer[f"T={unroll}"][bound][str(gain)] for unroll in UNROLLS for gain in GAINS] for bound in BOUNDS
    }
    failed = {bound: round(sum(cell["failed"] for cell in each) * seeds) for bound, each in cells.items()}
    touched = [cell for cell in cells["entries"] if max(cell["touched"]["per_seed"]) > 0]
    total = seeds * len(cells["none"])
    said = (
        f"{name} ({layer['inputs']} -> {layer['outputs']}): of {total} runs end worse than an empty image "
        f"{failed['none']} without a bound, {failed['entries']} with the clamp, {failed['spectral']} with its bound on "
        f"the largest singular value instead; default weights meet the clamp above a gain of "
        f"{layer['gain_that_is_clamped']:.3g}"
    )
    if not touched:
        return f"{said}, so it never touched a weight."
    sigma = max(max(cell["sigma_bound"]["per_seed"]) for cell in touched)
    bounded = "" if sigma < BOUND + 1e-6 else ", so it does not bound that"
    return f"{said}; right after clamping the largest singular value is up to {sigma:.3g}{bounded}."
