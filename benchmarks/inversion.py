"""Network evaluations to invert a given network to a relative residual of 1e-3: ``invert`` against gradient descent.

Gradient descent has the fixed step size that is best for the very samples measured, found by a search, with a quarter
of the evaluations for each try, that is not counted; ``invert`` pays for everything. Both sides count a forward pass
and a product with the Jacobian or its transpose as one evaluation each. Where gradient descent does not get there, what
it has spent is a lower bound, and so is the ratio. The networks: a Table 3 encoder with PyTorch's and with orthogonal
weights, the same trained by feature alignment, and torchvision's ResNet-18 with random weights and batch-norm
statistics calibrated on photographs. The targets are the outputs for parts of the photographs that no network was
trained on. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import functools
import json
import statistics
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from sklearn.datasets import load_sample_images
from torch import Tensor, nn
from torch.func import vjp

from feature_alignment import align, invert, largest_singular_value
from feature_alignment.core.speed.allocator import reuse_memory
from feature_alignment.models.networks import Encoder, orthogonal_

TOLERANCE = 1e-3
#: Times 1 / sigma^2 at the start; the linearised flow is stable below 2.
STEP_SIZES = (1.0, 2.0, 4.0, 8.0)


@functools.cache
def photographs() -> list[Tensor]:
    """Return scikit-learn's two photographs, each ``(3, 427, 640)`` in [0, 1]."""
    return [torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255 for image in load_sample_images().images]


def crops(side: int, count: int, held_out: bool, seed: int) -> Tensor:
    """Return random squares of the photographs in turn: from their left part, or held out."""
    draws = torch.Generator().manual_seed(seed)
    found = []
    for number in range(count):
        photograph = photographs()[number % 2]
        height, width = photograph.shape[1:]
        border = width - max(side + 40, width // 4)
        first, last = (border, width - side) if held_out else (0, border - side)
        top = int(torch.randint(0, height - side + 1, (), generator=draws))
        left = int(torch.randint(first, last + 1, (), generator=draws))
        found.append(photograph[:, top : top + side, left : left + side])
    return torch.stack(found)


def encoder() -> nn.Sequential:
    """Return Table 3's encoder with a linear layer to 128 latents."""
    return nn.Sequential(Encoder((3, 32, 32), (32, 64, 128), 2048), nn.Linear(2048, 128))


def trained_encoder(steps: int, device: str) -> nn.Sequential:
    """Train the orthogonal encoder by feature alignment (T = 1, a start of zeros) on patches of photographs."""
    network = encoder().apply(orthogonal_).to(device)
    images = crops(32, 2048, False, 1).to(device)
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    start = torch.zeros(1, 3, 32, 32, device=device)
    for _ in range(steps):
        batch = images[torch.randint(len(images), (64,))]
        loss = (align(network, network(batch), start, check=False) - batch).square().sum() / len(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network


def calibrated_resnet(side: int, device: str) -> nn.Module:
    """Return ResNet-18 in eval mode, random weights, with the statistics of photographs in its batch norms."""
    network = torchvision.models.resnet18(weights=None).to(device)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the average over all batches
    network.train()
    with torch.no_grad():
        for seed in range(2):
            network(crops(side, 16, False, seed).to(device))
    return network.eval()


def problems(options: argparse.Namespace, device: str) -> Iterator[tuple[str, nn.Module, Tensor, Tensor]]:
    """Yield name, network, images whose outputs are the targets, and the shared start."""
    torch.manual_seed(options.seed)
    images = crops(32, options.samples, True, options.seed + 5).to(device)
    start = torch.zeros(1, 3, 32, 32, device=device)
    yield "encoder_default", encoder().to(device), images, start
    yield "encoder_orthogonal", encoder().apply(orthogonal_).to(device), images, start
    yield "encoder_trained", trained_encoder(options.steps, device), images, start
    side = options.resnet_side
    images = crops(side, options.resnet_samples, True, options.seed + 5).to(device)
    yield "resnet18", calibrated_resnet(side, device), images, torch.full_like(images[:1], 0.5)


@torch.no_grad()
def descend(
    network: Callable[[Tensor], Tensor], target: Tensor, start: Tensor, step: float, most: int
) -> tuple[list[int], list[float]]:
    """Descend with a fixed step; return evaluations per sample, at most ``most``, and the lowest relative residuals."""
    index = torch.arange(len(target), device=target.device)
    points = start.repeat(len(target), *[1] * (start.ndim - 1))
    spent, lowest = torch.full((len(target),), most), torch.full((len(target),), float("inf"))
    for used in range(1, most + 1, 2):
        output, pull_back = vjp(network, points)[:2]
        error = output - target[index]
        residual = error.norm(dim=1) / target[index].norm(dim=1)
        places = index.cpu()
        lowest[places] = torch.fmin(lowest[places], residual.cpu())
        done = residual <= TOLERANCE
        spent[places[done.cpu()]] = used
        going = ~done & (residual < 1e3)
        points, index = (points - step * pull_back(error)[0])[going], index[going]
        if not len(index):
            break
    return spent.tolist(), lowest.tolist()


def best_descent(
    network: Callable[[Tensor], Tensor], target: Tensor, start: Tensor, curvature: float, most: int
) -> tuple[float, list[int], list[float]]:
    """Return the best factor of the step size for these very samples, and what :func:`descend` makes of it."""
    tried: dict[float, tuple[list[int], list[float]]] = {}

    def rank(factor: float) -> tuple[float, float]:
        return statistics.median(tried[factor][0]), statistics.median(tried[factor][1])

    factors = list(STEP_SIZES)
    for ratio in (2**0.5, 2**0.25, None):  # the grid, then ever closer to its best
        for factor in factors:
            tried[factor] = descend(network, target, start, factor / curvature, most // 4)
        best = min(tried, key=rank)
        factors = [best / ratio, best * ratio] if ratio else []
    return best, *descend(network, target, start, best / curvature, most)


def measure(network: nn.Module, images: Tensor, start: Tensor, most: int, method: str) -> dict[str, Any]:
    """Count the evaluations of both sides on one network."""
    network.requires_grad_(False)
    target = network(images)
    curvature = float(largest_singular_value(network, start, 50)[0].square())
    factor, spent, lowest = best_descent(network, target, start, curvature, most)
    found = invert(network, target, start, TOLERANCE, most, method=method)
    # Not what invert says of itself: the network at what it found.
    residual = (network(found.input) - target).norm(dim=1) / target.norm(dim=1)
    ours = found.evaluations.tolist()
    return {
        "gradient_descent": {
            "median_evaluations": statistics.median(spent),
            "evaluations": spent,
            "converged": sum(each <= TOLERANCE for each in lowest) / len(lowest),
            "largest_residual": max(lowest),
            "step_size_times_sigma_squared": round(factor, 3),
        },
        "invert": {
            "median_evaluations": statistics.median(ours),
            "evaluations": ours,
            "converged": float((residual <= TOLERANCE * 1.01).float().mean()),
            "largest_residual": float(residual.max()),
        },
        "sigma_squared": curvature,
        "fewer_evaluations": round(statistics.median(spent) / statistics.median(ours), 2),
        "is_lower_bound": max(lowest) > TOLERANCE,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=8, help="targets for each encoder")
    parser.add_argument("--resnet-samples", type=int, default=2)
    parser.add_argument("--resnet-side", type=int, default=112, help="image size for ResNet-18, in pixels")
    parser.add_argument("--steps", type=int, default=150, help="optimiser steps that train the encoder")
    parser.add_argument("--max-evaluations", type=int, default=800)
    parser.add_argument("--method", default="auto", help="of invert")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="also write the result to this file")
    options = parser.parse_args()
    reuse_memory()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    networks = {
        name: measure(network, images, start, options.max_evaluations, options.method)
        for name, network, images, start in problems(options, device)
    }
    result = {
        "benchmark": "inversion",
        "device": torch.cuda.get_device_name() if device == "cuda" else f"cpu ({torch.get_num_threads()} threads)",
        "torch": torch.__version__,
        "tolerance": TOLERANCE,
        "seed": options.seed,
        "method": options.method,
        "resnet_side": options.resnet_side,
        "fewer_evaluations": {name: found["fewer_evaluations"] for name, found in networks.items()},
        "is_lower_bound": {name: found["is_lower_bound"] for name, found in networks.items()},
        **networks,
    }
    print(json.dumps(result, indent=2))
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
