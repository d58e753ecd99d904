"""An update of `fa` with its layered start, and decoding by it, against an autoencoder and a Gradient Origin Network.

`T=1` is a layered start and one bounded step, `K=15` trains for one to fifteen further steps too, in turn, so that its
fastest repeat is one with few of them. The autoencoder has the same encoder and its mirror as the decoder, the origin
network that decoder alone; nothing is done to speed these two up. All sides take turns in one process, there and back
(ABBA); what is compared is CPU time, of one thread unless asked otherwise, on a GPU the time until it is done.

Operations are those of products and convolutions. `gigaflop_by_part` has them for encoding, the start and the
correction, forwards and with the backward pass of that part alone; `where_ms` is the time that kinds of operations
take, by PyTorch's profiler. The size `small` is that of `falign reproduce quality` on digits, `config` that of
`--config fa`. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from training_step import DEVICE, Step, operations, synchronize, update_of

from feature_alignment.core.speed.allocator import reuse_memory
from feature_alignment.models import AE, FA, GON

SIZES: dict[str, dict[str, Any]] = {
    "small": {"image_shape": (1, 28, 28), "channels": (16, 32), "width": 512, "latent": 64},
    "config": {"image_shape": (1, 28, 28), "channels": (32, 64), "width": 4096, "latent": 128},
}
FEATURE: dict[str, Any] = {
    "start": "layers", "step_size": 4.0, "learn_step_size": True, "max_step": 20.0, "squash": "every",
    "clamp_inputs": 0.0,
}  # fmt: skip
TRAINING: dict[str, Any] = {"activation": "silu", "learning_rate": 1e-3, "schedule": "cosine", "clip_gradient": 10.0}
#: By the beginning of PyTorch's names for operations.
KINDS = {
    "convolutions": ("aten::convolution", "aten::_convolution", "aten::mkldnn", "aten::_slow_conv", "aten::slow_conv"),
    "products": ("aten::mm", "aten::addmm"),
    "activations": ("aten::silu", "aten::sigmoid", "aten::softplus", "aten::tanh"),
    "other elementwise operations": ("aten::mul", "aten::add", "aten::sub", "aten::neg", "aten::fill", "aten::pow"),
    "sums and copies": ("aten::sum", "aten::copy", "aten::im2col", "aten::col2im"),
    "optimiser": ("aten::_fused_adam", "Optimizer", "aten::linalg_vector_norm", "aten::clamp"),
}


FURTHER = 15


def models(size: dict[str, Any]) -> dict[str, Any]:
    torch.manual_seed(0)
    common = {**size, **TRAINING}
    feature = {**common, **FEATURE, "activate_width": True}
    return {
        "autoencoder": AE(**common, activate_width=True).to(DEVICE),
        "origin network": GON(**common).to(DEVICE),
        "T=1": FA(**feature).to(DEVICE),
        "T=2": FA(**feature, steps=2).to(DEVICE),
        f"T=1, K={FURTHER}": FA(**feature, further_steps=FURTHER).to(DEVICE),
    }


# --- time -------------------------------------------------------------------------------------------------


def clock() -> float:
    synchronize()
    return time.perf_counter() if DEVICE == "cuda" else time.process_time()


def take_turns(steps: dict[str, Step], repeats: int, calls: int) -> dict[str, list[float]]:
    """Return the milliseconds of a call, for every repeat; the order turns round after each."""
    for step in steps.values():
        for _ in range(3):
            step()
    taken: dict[str, list[float]] = {name: [] for name in steps}
    for repeat in range(repeats):
        for name in list(steps) if repeat % 2 == 0 else reversed(list(steps)):
            begun = clock()
            for _ in range(calls):
                steps[name]()
            taken[name].append(1000 * (clock() - begun) / calls)
    return taken


def compared(taken: dict[str, list[float]], rival: str) -> dict[str, dict[str, float]]:
    """Return the milliseconds of each side, and their ratio to the rival's."""
    of_rival = taken[rival]
    return {
        name: {
            "median_ms": round(statistics.median(all_), 2),
            "min_ms": round(min(all_), 2),
            "ratio_of_medians": round(statistics.median(all_) / statistics.median(of_rival), 3),
            "ratio_of_minima": round(min(all_) / min(of_rival), 3),
            "median_of_ratios": round(statistics.median(a / b for a, b in zip(all_, of_rival, strict=True)), 3),
        }
        for name, all_ in taken.items()
    }


def where(step: Step, repeats: int) -> dict[str, float]:
    """Return the milliseconds that kinds of operations take under the profiler, medians over calls."""
    found: list[Counter[str]] = []
    for _ in range(repeats):
        with profile(activities=[ProfilerActivity.CPU]) as profiled:
            step()
        kinds: Counter[str] = Counter(dict.fromkeys([*KINDS, "between them"], 0.0))
        for event in profiled.key_averages():
            kind = next((kind for kind, names in KINDS.items() if event.key.startswith(names)), "between them")
            kinds[kind] += event.self_cpu_time_total / 1000
        found.append(kinds)
    return {kind: round(statistics.median(each[kind] for each in found), 2) for kind in found[0]}


# --- operations -------------------------------------------------------------------------------------------


def by_part(model: FA, images: Tensor) -> dict[str, dict[str, float]]:
    """Return the GFLOP of the parts of an update, forwards and with the backward pass of the part by itself."""
    network = model.snapshot(len(images))
    target = network.outputs(images).detach().requires_grad_()
    start = model.layered_start
    assert start is not None
    place = start(target).detach().requires_grad_()
    parts: dict[str, Callable[[], Tensor]] = {
        "encoding": lambda: model.snapshot(len(images)).outputs(images),
        "start": lambda: start(target),
        "correction": lambda: model.follow(network.network, target, place, False, model.options.steps),
    }
    found = {}
    for name, part in parts.items():
        forward, both = operations(part), operations(lambda part=part: part().sum().backward())
        found[name] = {"forward": round(forward / 1e9, 6), "with backward": round(both / 1e9, 6)}
    return found


# ----------------------------------------------------------------------------------------------------------


def measure(size: dict[str, Any], batch: int, repeats: int) -> dict[str, Any]:
    sides = models(size)
    images = torch.rand(batch, *size["image_shape"], device=DEVICE)
    latents = torch.randn(batch, size["latent"], device=DEVICE)
    updates = {name: update_of(copy.deepcopy(model), images, None) for name, model in sides.items()}
    # The origin network decodes as the autoencoder does, and K matters to training only.
    decoding = {name: lambda name=name: sides[name].decode(latents) for name in ("autoencoder", "T=1", "T=2")}
    update_times = take_turns(updates, repeats, 1)

    def per_update(name: str) -> float:
        """Return the GFLOP of an update, the mean over all numbers of further steps."""
        count = FURTHER if "K" in name else 1
        return round(operations(lambda: [updates[name]() for _ in range(count)]) / count / 1e9, 3)

    return {
        "update": compared(update_times, "autoencoder"),
        "decoding": compared(take_turns(decoding, repeats, 4), "autoencoder"),
        "gigaflop": {
            "update": {name: per_update(name) for name in updates},
            "decoding": {name: round(operations(step) / 1e9, 3) for name, step in decoding.items()},
        },
        "gigaflop_by_part": by_part(sides["T=1"], images),
        "where_ms": {name: where(updates[name], min(repeats, 9)) for name in ("autoencoder", "T=1")},
    }


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--sizes", nargs="*", choices=sorted(SIZES), default=sorted(SIZES))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, help="also write the result to this file")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    reuse_memory()
    begun = time.perf_counter()
    result = {
        "benchmark": "layered",
        "device": torch.cuda.get_device_name() if DEVICE == "cuda" else f"cpu ({options.threads} threads)",
        "torch": torch.__version__,
        "batch": options.batch,
        "repeats": options.repeats,
        "sizes": {name: measure(SIZES[name], options.batch, options.repeats) for name in options.sizes},
        "seconds": round(time.perf_counter() - begun, 1),
    }
    print(json.dumps(result, indent=2))
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n")
    return result


if __name__ == "__main__":
    main()
