"""One training step's feature and its gradient: shared start against one start per sample, in one process.

Both sides are `align` on the encoder of Table 2; they run in turn, and the medians are compared, so that a
noisy machine disturbs both alike. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import torch

from feature_alignment import align
from feature_alignment.networks import Encoder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--json", type=Path, help="also write the result to this file")
    options = parser.parse_args()

    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    images = torch.rand(options.batch, 1, 28, 28, device=device)
    encoder = Encoder((1, 28, 28)).to(device)
    starts = {"shared": torch.zeros(1, 1, 28, 28, device=device), "per_sample": torch.zeros_like(images)}

    def step(start: torch.Tensor) -> float:
        begun = time.perf_counter()
        feature = align(encoder, encoder(images), start, check=False)
        torch.autograd.grad((images - feature).square().sum(), list(encoder.parameters()))
        if device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - begun

    seconds: dict[str, list[float]] = {name: [] for name in starts}
    for repeat in range(options.repeats + 1):
        for name, start in starts.items():
            taken = step(start)
            if repeat:  # the first is a warm-up
                seconds[name].append(taken)
    medians = {f"{name}_ms": 1000 * statistics.median(taken) for name, taken in seconds.items()}
    result = {
        "benchmark": "alignment_step",
        "device": torch.cuda.get_device_name() if device == "cuda" else f"cpu ({torch.get_num_threads()} threads)",
        "torch": torch.__version__,
        "batch": options.batch,
        "repeats": options.repeats,
        **{name: round(value, 1) for name, value in medians.items()},
        "shared_over_per_sample": round(medians["per_sample_ms"] / medians["shared_ms"], 3),
    }
    print(json.dumps(result, indent=2))
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
