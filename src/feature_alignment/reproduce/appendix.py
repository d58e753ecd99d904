r"""The numerical study of Appendix A: what its three claims come to when they are measured.

(a) The feature of a linear layer converges (equations 9-17): one weight to :math:`\hat a / w`, a matrix to the
solution by the pseudo-inverse. (b) Training makes the weights orthogonal (equations 18-20). (c) Clamping the
weights to :math:`[-\sqrt 2, \sqrt 2]` keeps the training stable (equation 7).

Equations 11-16 follow from :math:`r^1 = r^0 + w (\hat a - w r^0)`; equation 11 prints a minus in its first form.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean, median, stdev
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import skip_init
from torch.optim import Adam

from ..core.alignment import align
from ..core.local import LocalNetwork
from ..report.pictures import plots

__all__ = ["appendix_a", "clamp", "features", "weights"]

#: The bound of equation 7.
BOUND = math.sqrt(2)

#: Weights of equation 16, inside, on and beyond the bound.
SCALARS = (0.1, 0.2, 0.4, 0.7, 1.0, 1.2, 1.4, BOUND, 1.5, 1.6)
#: Numbers of steps p at which a feature is looked at.
POWERS = (1, 2, 3, 4, 6, 10, 16, 25, 40, 63, 100)
#: Outputs and inputs of the random matrices.
SHAPES = {"wide": (12, 30), "tall": (30, 12)}
MATRIX_POWERS = (*POWERS, 160, 250, 400)

BATCH = 128
LEARNING_RATE = 3e-3
#: How near to orthonormal counts as such: root mean square deviation of a row's or column's products.
TOLERANCE = 0.05

CLAMP_STEPS = 200
CLAMP_LEARNING_RATE = 1e-2
GAINS = (1, 2, 4, 8)


def appendix_a(directory: Path, images: Tensor, seeds: Sequence[int], steps: int) -> dict[str, Any]:
    """Measure the three claims of Appendix A and draw them.

    Args:
        directory: for ``appendix-a-features.png``, ``appendix-a-weights.png`` and ``appendix-a-clamp.png``.
        images: training images in [0, 1], shape ``(N, C, H, W)``.
        seeds: of starts, matrices, initial weights and batches, one run each.
        steps: training steps of the weights' study; the clamp's takes at most :data:`CLAMP_STEPS`.

    Returns:
        ``features``, ``weights`` and ``clamp``, each with ``claim``, what the paper says, ``holds``, what was
        measured in words, and the numbers. It is JSON as it stands: an infinite number is None.

    Raises:
        ValueError: no images, seeds or steps.
    """
    if images.ndim != 4 or not images.numel():
        raise ValueError(f"images: expected shape (N, C, H, W), got {tuple(images.shape)}")
    if not seeds:
        raise ValueError("seeds: expected at least one")
    if steps < 1:
        raise ValueError(f"steps: expected at least 1, got {steps}")
    directory.mkdir(parents=True, exist_ok=True)
    found: dict[str, Any] = _finite(
        {
            "features": features(seeds),
            "weights": weights(images, seeds, steps),
            "clamp": clamp(images, seeds, min(steps, CLAMP_STEPS)),
        }
    )
    _draw(found, directory)
    return found


# --- (a) the features --------------------------------------------------------------------------------


def features(seeds: Sequence[int]) -> dict[str, Any]:
    r"""Compare the iteration done by :func:`feature_alignment.align` with closed forms, in float64.

    One weight: equation 16 and its limit (17). A matrix :math:`W = U \Sigma V^\top`, with step size :math:`\tau`:

    .. math::
        r^p = r^0 + V \, \frac{1 - (1 - \tau \Sigma^2)^p}{\Sigma} \, U^\top (z - W r^0)
        \;\to\; r^0 + W^+ (z - W r^0)

    at the rate :math:`\max_\sigma \lvert 1 - \tau \sigma^2 \rvert`, if :math:`\tau \sigma^2 < 2` for every
    singular value :math:`\sigma > 0`.

    Returns:
        ``scalar`` and ``matrix``; a distance is relative to that of the start from the limit.
    """
    scalar = _scalar(seeds)
    matrix = {
        f"{shape} {outputs}x{inputs}": _matrix(outputs, inputs, seeds) for shape, (outputs, inputs) in SHAPES.items()
    }

    # Over 100 steps the distance at |w| = 0.1 falls to 0.37; the one on the bound must not fall at all.
    rises = [w for w, left in scalar["distance_after"].items() if left > 1 - 1e-6]
    sizes = [run for shape in matrix.values() for run in shape["step_sizes"].values()]
    exact = max(scalar["largest_difference"], *(run["largest_difference"] for run in sizes))
    unit = [shape["step_sizes"]["1"] for shape in matrix.values()]
    unstable = sum(run["diverged"] for run in unit)
    entry = max(max(shape["largest_entry"]) for shape in matrix.values())
    rate = max(abs(run["rate"][i] - run["rate_expected"][i]) for run in sizes for i in range(len(seeds)))
    stable = [run for run in sizes if max(run["rate_expected"]) < 1]
    left_over = max(max(run["distance_after"]) for run in stable)
    holds = (
        f"Equation 16 {'holds' if exact < 1e-9 else 'DOES NOT hold'}: iteration and closed forms differ by at most "
        f"{exact:.1g}. The limit a/w is approached for weights below {min(map(float, rises), default=math.inf):.4g}, "
        f"and not at {', '.join(rises) or 'none'}: w^2 < 2 must be strict. A matrix converges to the pseudo-inverse "
        f"solution (distance left after {MATRIX_POWERS[-1]} steps: {left_over:.1g}) at the rate "
        f"max|1 - step size * sigma^2| (to within {rate:.1g} a step) where the largest singular value obeys "
        f"sigma^2 < 2 / step size. The entries do not decide that: {unstable} of {len(unit) * len(seeds)} random "
        f"matrices, none with an entry above {entry:.2g}, diverge at step size 1."
    )
    return {
        "claim": "The feature converges to a/w, the inverse of the weight, as long as w^2 <= 2 (equations 16, 17).",
        "holds": holds,
        "scalar": scalar,
        "matrix": matrix,
    }


def _scalar(seeds: Sequence[int]) -> dict[str, Any]:
    """One weight a coordinate, so that one call serves all of :data:`SCALARS`."""
    weight = torch.tensor(SCALARS, dtype=torch.float64)
    stable = weight < BOUND
    differences, relative, distances = [], [], []
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        start, target = torch.randn(2, 1, len(weight), generator=generator, dtype=torch.float64)
        limit = target / weight
        ends = []
        for power in POWERS:
            feature = align(lambda r: r * weight, target, start, steps=power, check=False)
            difference = (feature - equation_16(start, weight, target, power)).abs()
            differences.append(float(difference[:, stable].max()))
            relative.append(float((difference / feature.abs().clamp_min(1)).max()))
            ends.append(((feature - limit) / (start - limit)).abs()[0])
        distances.append(torch.stack(ends, 1))
    distance = torch.stack(distances).amax(0)  # (weights, powers)
    names = [f"{value:.4g}" for value in SCALARS]
    return {
        "steps": list(POWERS),
        "largest_difference": max(relative),
        "largest_absolute_difference_below_bound": max(differences),
        "distance": dict(zip(names, distance.tolist(), strict=True)),
        "distance_after": dict(zip(names, distance[:, -1].tolist(), strict=True)),
        "distance_expected": dict(zip(names, ((1 - weight**2).abs() ** POWERS[-1]).tolist(), strict=True)),
    }


def equation_16(start: Tensor, weight: Tensor, target: Tensor, steps: int) -> Tensor:
    r"""Return :math:`r^0 (1 - w^2)^p + \sum_{q=0}^{p-1} (1 - w^2)^q \, w \hat a`, term by term as printed."""
    factor = 1 - weight**2
    total = torch.stack([factor**power for power in range(steps)]).sum(0)
    return start * factor**steps + total * weight * target


def _matrix(outputs: int, inputs: int, seeds: Sequence[int]) -> dict[str, Any]:
    """Random matrices of one shape, at step sizes below, near and above their bound, and at 1."""
    sizes: dict[str, Callable[[float], float]] = {
        "1/sigma^2": lambda top: 1 / top**2,
        "1.9/sigma^2": lambda top: 1.9 / top**2,
        "2.1/sigma^2": lambda top: 2.1 / top**2,
        "1": lambda top: 1.0,
    }
    found: dict[str, Any] = {"steps": list(MATRIX_POWERS), "largest_entry": [], "largest_singular_value": []}
    runs: dict[str, dict[str, Any]] = {
        name: {
            "step_size": [], "distance": [], "distance_after": [], "rate": [], "rate_expected": [], "diverged": 0,
            "largest_difference": 0.0,
        }
        for name in sizes
    }  # fmt: skip
    scale = math.sqrt(max(outputs, inputs))
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        matrix = torch.randn(outputs, inputs, generator=generator, dtype=torch.float64) / scale
        target = torch.randn(1, outputs, generator=generator, dtype=torch.float64)
        start = torch.randn(1, inputs, generator=generator, dtype=torch.float64)
        left, values, right = np.linalg.svd(matrix.numpy(), full_matrices=False)
        network = skip_init(nn.Linear, inputs, outputs, bias=False, dtype=torch.float64).requires_grad_(False)
        network.weight.copy_(matrix)
        gap = (target - start @ matrix.T).numpy()
        limit = start + torch.from_numpy(gap @ np.linalg.pinv(matrix.numpy()).T)
        found["largest_entry"].append(float(matrix.abs().max()))
        found["largest_singular_value"].append(float(values[0]))
        for name, size_of in sizes.items():
            size, run, distance = size_of(float(values[0])), runs[name], []
            feature, done = start, 0
            for power in MATRIX_POWERS:
                feature = align(network, target, feature, steps=power - done, step_size=size, check=False)
                done = power
                closed = start.numpy() + gap @ left @ np.diag((1 - (1 - size * values**2) ** power) / values) @ right
                difference = float((feature - torch.from_numpy(closed)).norm() / max(1.0, np.linalg.norm(closed)))
                run["largest_difference"] = max(run["largest_difference"], difference)
                distance.append(float((feature - limit).norm() / (start - limit).norm()))
            # The slowest part alone is left after a while, and rounding errors alone after a long while.
            early, late = MATRIX_POWERS.index(63), MATRIX_POWERS.index(160)
            run["rate"].append((distance[late] / distance[early]) ** (1 / (160 - 63)))
            run["rate_expected"].append(float(np.abs(1 - size * values**2).max()))
            run["step_size"].append(size)
            run["distance"].append(distance)
            run["distance_after"].append(distance[-1])
            run["diverged"] += not distance[-1] <= 1
    return {**found, "step_sizes": runs}


# --- (b) the weights ---------------------------------------------------------------------------------


def weights(images: Tensor, seeds: Sequence[int], steps: int) -> dict[str, Any]:
    r"""Train single linear layers by feature alignment and see how orthogonal their weights become.

    With :math:`T = \tau = 1` and a start of zeros (equation 20) the loss is :math:`\lVert x - W^\top W x \rVert^2`.
    With :math:`k` outputs for :math:`n > k` inputs, :math:`W^\top W` has rank :math:`k` and cannot be the
    identity: :math:`\lVert W^\top W - I \rVert_F \ge \sqrt{n - k}`, with equality where the rows are
    orthonormal, :math:`W W^\top = I`. The loss is then least if they span the first :math:`k` principal
    components (uncentred), whose error comes from a singular value decomposition of the data.

    Returns:
        Per layer and initialisation, over the seeds: ``rows`` is :math:`\lVert W W^\top - I \rVert_F / \sqrt k`,
        ``columns`` is :math:`\lVert W^\top W - I \rVert_F / \sqrt n`, ``paper`` the same without the root,
        ``paper_bound`` what it cannot go below, ``error`` the mean of :math:`\lVert x - \hat r \rVert^2`,
        ``optimum`` the least possible one, ``blank`` that of an image of zeros.
    """
    layers = _layers(images)
    moments = sorted({0, steps, *np.geomspace(1, steps, 24).round().astype(int).tolist()})
    found: dict[str, Any] = {}
    for name, (data, outputs) in layers.items():
        inputs = data.shape[1]
        values = np.linalg.svd(data.double().numpy(), compute_uv=False)
        found[name] = {
            "inputs": inputs,
            "outputs": outputs,
            "samples": len(data),
            "blank": float((values**2).sum() / len(data)),
            "optimum": float((values[outputs:] ** 2).sum() / len(data)),
            "paper_bound": math.sqrt(max(0, inputs - outputs)),
            "steps": moments,
        }
        for start in ("default", "orthogonal"):
            runs = []
            for seed in seeds:
                generator = torch.Generator().manual_seed(seed)
                layer = linear(inputs, outputs, start, generator)
                runs.append(_train(layer, data, steps, moments, generator))
            found[name][start] = {
                key: {
                    "before": _summary([run[key][0] for run in runs]),
                    "after": _summary([run[key][-1] for run in runs]),
                    "history": [run[key] for run in runs],
                }
                for key in runs[0]
            }
    return {
        "claim": "The loss is least where the weights are orthogonal, W^T W = I, and training leads there "
        "(equation 20), so the transposed weights are the pseudo-inverse.",
        "holds": " ".join(_verdict(name, layer) for name, layer in found.items()),
        "steps": steps,
        "learning_rate": LEARNING_RATE,
        "batch": BATCH,
        "layers": found,
    }


def _layers(images: Tensor) -> dict[str, tuple[Tensor, int]]:
    """Return samples, shape ``(N, n)``, and the number of outputs of every layer that is trained."""
    flat = images.flatten(1)
    crops = _crop(images, 8)
    white = torch.randn(4096, 32, generator=torch.Generator().manual_seed(0))
    return {
        "images, fewer outputs": (flat, max(1, min(64, flat.shape[1] // 2))),
        "crops, as many outputs": (crops, crops.shape[1]),
        "crops, more outputs": (crops, crops.shape[1] * 3 // 2),
        "white noise, as many outputs": (white, white.shape[1]),
    }


def _crop(images: Tensor, side: int) -> Tensor:
    """Return the middle of the first channel, at most ``side`` x ``side``, shape ``(N, pixels)``."""
    height, width = images.shape[2:]
    top, left = max(0, height - side) // 2, max(0, width - side) // 2
    return images[:, 0, top : top + side, left : left + side].flatten(1)


def linear(inputs: int, outputs: int, start: str, generator: torch.Generator, gain: float = 1) -> nn.Linear:
    """Return a linear layer without bias: PyTorch's ``default`` weights or ``orthogonal`` ones, times ``gain``."""
    layer: nn.Linear = skip_init(nn.Linear, inputs, outputs, bias=False)
    if start == "orthogonal":
        nn.init.orthogonal_(layer.weight, gain, generator=generator)
    else:
        # What nn.Linear does, which cannot be given a generator.
        nn.init.uniform_(layer.weight, -gain / math.sqrt(inputs), gain / math.sqrt(inputs), generator=generator)
    return layer


def _train(
    layer: nn.Linear, data: Tensor, steps: int, moments: Sequence[int], generator: torch.Generator
) -> dict[str, list[float]]:
    """Train by Algorithm 2 with Adam, its rate falling linearly to 0, and measure at the given steps."""
    network = LocalNetwork([layer], (layer.in_features,))
    optimizer = Adam(network.parameters(), LEARNING_RATE)
    history: dict[str, list[float]] = {"rows": [], "columns": [], "paper": [], "error": []}
    for step in range(steps + 1):
        if step in moments:
            rows, paper = orthogonality(layer.weight.detach())
            history["rows"].append(rows / math.sqrt(layer.out_features))
            history["columns"].append(paper / math.sqrt(layer.in_features))
            history["paper"].append(paper)
            history["error"].append(_error(network, data))
        if step < steps:
            optimizer.param_groups[0]["lr"] = LEARNING_RATE * (1 - step / steps)
            network.local_step(_batch(data, generator), [optimizer])
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


def _batch(data: Tensor, generator: torch.Generator) -> Tensor:
    return data[torch.randint(len(data), (BATCH,), generator=generator)]


@torch.no_grad()
def _error(network: LocalNetwork, data: Tensor) -> float:
    """Return the mean over the samples of the squared distance to the feature."""
    return float((data - network.run_backwards(network(data))).double().square().sum(1).mean())


def _verdict(name: str, layer: Mapping[str, Any]) -> str:
    """Say for one layer what the numbers say."""
    outputs, inputs = layer["outputs"], layer["inputs"]
    size = f"{name} ({inputs} -> {outputs})"
    said = []
    for start in ("default", "orthogonal"):
        after = {key: layer[start][key]["after"]["mean"] for key in ("rows", "columns", "paper", "error")}
        # Orthogonal weights have the property before any training: what they had is said too.
        before = {key: layer[start][key]["before"]["mean"] for key in ("rows", "columns")}
        if outputs < inputs:
            reached = after["rows"] < TOLERANCE
            said.append(
                f"from {start} weights the rows are {'' if reached else 'NOT '}orthonormal (W W^T = I to "
                f"{after['rows']:.2g}, before training to {before['rows']:.2g}), ||W^T W - I|| = {after['paper']:.4g} "
                f"where {layer['paper_bound']:.4g} is the least possible, the error "
                f"{after['error'] / max(layer['optimum'], 1e-12):.4g} times that of the principal components"
            )
        else:
            reached = after["columns"] < TOLERANCE
            said.append(
                f"from {start} weights W^T W = I is {'' if reached else 'NOT '}reached (to {after['columns']:.2g}, "
                f"before training to {before['columns']:.2g}), "
                f"the error {after['error'] / layer['blank']:.2g} of an empty image's"
            )
    limit = "W^T W = I is impossible; " if outputs < inputs else ""
    return f"{size}: {limit}{'; '.join(said)}."


# --- (c) the clamp -----------------------------------------------------------------------------------


def _free(weight: Tensor) -> None:
    """Leave the weights as they are."""


def _entries(weight: Tensor) -> None:
    """Equation 7."""
    weight.clamp_(-BOUND, BOUND)


def _spectral(weight: Tensor) -> None:
    """Scale the matrix down until its largest singular value obeys the bound, for comparison."""
    weight.mul_((BOUND / torch.linalg.matrix_norm(weight, 2)).clamp(max=1))


BOUNDS: dict[str, Callable[[Tensor], None]] = {"none": _free, "entries": _entries, "spectral": _spectral}


def clamp(images: Tensor, seeds: Sequence[int], steps: int) -> dict[str, Any]:
    r"""Train from weights of growing scale without a bound, with equation 7, and with one on the singular values.

    Three layers: a single weight, as in the paper's derivation; the 3 x 3 patches that a first convolution sees
    (9 inputs, 32 outputs); crops of 8 x 8 pixels (64 inputs, 64 outputs). The bound is applied before every step
    and once after the last.

    Returns:
        Per layer and :math:`T`, by bound and gain of the initial weights (PyTorch's default, times the gain): the
        share of runs that ``failed``, their final error not finite or above that of an empty image, the final
        ``error``, and the largest singular value before, after the first bound, and at the end. ``touched`` is the
        largest share of weights outside of the bound before any step.
    """
    patches = _patches(images)
    crops = _crop(images, 8)
    layers = {
        "one weight": (patches[:, patches.shape[1] // 2 :][:, :1], 1),
        "3x3 patches": (patches, 32),
        "8x8 crops": (crops, crops.shape[1]),
    }
    found: dict[str, Any] = {}
    for name, (data, outputs) in layers.items():
        blank = float(data.double().square().sum(1).mean())
        inputs = data.shape[1]
        found[name] = {
            "inputs": inputs,
            "outputs": outputs,
            "blank": blank,
            # The default weights are uniform up to 1 / sqrt(n).
            "gain_that_is_clamped": BOUND * math.sqrt(inputs),
        }
        for unroll in (1, 3):
            found[name][f"T={unroll}"] = {
                bound: {
                    str(gain): _cell(
                        [_clamped(data, outputs, gain, unroll, bound, seed, steps) for seed in seeds], blank
                    )
                    for gain in GAINS
                }
                for bound in BOUNDS
            }
    return {
        "claim": "Beyond w^2 = 2 the loss is unstable; clamping every weight to [-sqrt 2, sqrt 2] prevents it "
        "(equation 7).",
        "holds": " ".join(_clamp_verdict(name, layer, len(seeds)) for name, layer in found.items()),
        "steps": steps,
        "learning_rate": CLAMP_LEARNING_RATE,
        "batch": BATCH,
        "layers": found,
    }


def _patches(images: Tensor) -> Tensor:
    """Return up to 3 x 3 pixels of the first channel that are not all zero, of the first images, shape ``(N, 9)``."""
    side = min(3, *images.shape[2:])
    patches = nn.functional.unfold(images[:200, :1], side).movedim(1, 2).flatten(0, 1)
    kept = patches[patches.sum(1) > 0]
    return kept if len(kept) else patches


def _clamped(
    data: Tensor, outputs: int, gain: float, unroll: int, bound: str, seed: int, steps: int
) -> dict[str, float]:
    generator = torch.Generator().manual_seed(seed)
    layer = linear(data.shape[1], outputs, "default", generator, gain)
    network = LocalNetwork([layer], (layer.in_features,), steps=unroll)
    optimizer = Adam(network.parameters(), CLAMP_LEARNING_RATE)
    weight = layer.weight.detach()  # the same memory
    run = {"sigma_before": _top(weight), "touched": 0.0}
    for step in range(steps + 1):
        run["touched"] = max(run["touched"], float((weight.abs() > BOUND).float().mean()))
        BOUNDS[bound](weight)
        if step == 0:
            run["sigma_bound"] = _top(weight)
        if step < steps:
            network.local_step(_batch(data, generator), [optimizer])
    return {**run, "sigma_after": _top(weight), "error": _error(network, data)}


def _top(weight: Tensor) -> float:
    return float(torch.linalg.matrix_norm(weight, 2))


def _cell(runs: Sequence[Mapping[str, float]], blank: float) -> dict[str, Any]:
    return {
        "failed": fmean(not run["error"] <= blank for run in runs),
        **{key: _summary([run[key] for run in runs]) for key in runs[0]},
    }


def _clamp_verdict(name: str, layer: Mapping[str, Any], seeds: int) -> str:
    """Say for one layer what the numbers say."""
    cells = {
        bound: [layer[unroll][bound][str(gain)] for unroll in ("T=1", "T=3") for gain in GAINS] for bound in BOUNDS
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


# --- what the three share ----------------------------------------------------------------------------


def _summary(values: Sequence[float]) -> dict[str, Any]:
    """Return the values of the seeds, mean, standard deviation (None for one seed) and median."""
    return {
        "per_seed": list(values),
        "mean": fmean(values),
        "std": stdev(values) if len(values) > 1 and all(map(math.isfinite, values)) else None,
        "median": median(values),
    }


def _finite(value: Any) -> Any:
    """Replace the numbers that JSON does not have by None, and NumPy's by Python's."""
    if isinstance(value, Mapping):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    return value


def _draw(found: Mapping[str, Any], directory: Path) -> None:
    """Write the three pictures from the numbers alone."""
    scalar, matrix = found["features"]["scalar"], found["features"]["matrix"]
    panels: dict[str, dict[str, list[tuple[list[float], list[float]]]]] = {
        "one weight": {
            f"w = {name}": [(scalar["steps"], _plottable(line))] for name, line in scalar["distance"].items()
        }
    }
    for name, shape in matrix.items():
        panels[f"matrix, {name}"] = {
            f"step size {size}": [(shape["steps"], _plottable(line)) for line in run["distance"]]
            for size, run in shape["step_sizes"].items()
        }
    plots(
        panels,
        directory / "appendix-a-features.png",
        title="Distance of the feature from its limit, relative to the start's",
        x_scale="log",
        marker=".",
    )

    panels = {}
    for name, layer in found["weights"]["layers"].items():
        fewer = layer["outputs"] < layer["inputs"]
        product = "W W^T" if fewer else "W^T W"
        least = f", least possible {layer['optimum'] / layer['blank']:.3f}" if fewer else ""
        panels[f"{name} ({layer['inputs']} to {layer['outputs']}){least}"] = {
            f"{label}, {start}": [
                (layer["steps"], _plottable([each / scale for each in line])) for line in layer[start][key]["history"]
            ]
            for start in ("default", "orthogonal")
            for key, label, scale in (
                ("rows" if fewer else "columns", f"deviation of {product} from I", 1.0),
                ("error", "error / empty image's", layer["blank"]),
            )
        }
    plots(
        panels,
        directory / "appendix-a-weights.png",
        title="Orthogonality and error of one linear layer, trained by feature alignment",
        x_scale="symlog",
    )

    labels = {
        "none": "no bound",
        "entries": "entries clamped (hides the first where equal)",
        "spectral": "singular values bounded",
    }
    panels = {
        f"{name} ({layer['inputs']} to {layer['outputs']}), {unroll}": {
            labels[bound]: [
                (list(GAINS), _plottable([_ratio(cells[str(gain)]["error"]["per_seed"][i], layer) for gain in GAINS]))
                for i in range(len(cells["1"]["error"]["per_seed"]))
            ]
            for bound, cells in layer[unroll].items()
        }
        for name, layer in found["clamp"]["layers"].items()
        for unroll in ("T=1", "T=3")
    }
    plots(
        panels,
        directory / "appendix-a-clamp.png",
        title="Final error / empty image's, by the scale of the initial weights; above 1 the run failed",
        x_label="gain",
        marker="o",
    )


def _ratio(error: float | None, layer: Mapping[str, Any]) -> float:
    return math.nan if error is None else error / layer["blank"]


def _plottable(line: Sequence[float | None]) -> list[float]:
    """Cut a line off at the rounding errors below and where it leaves the picture above."""
    return [math.nan if value is None or value > 1e12 else max(value, 1e-16) for value in line]
