"""Images per second: the feature decoder after one step against a decoder network; refined against generated samples.

All four decode the same latents, in turn, in one process; medians are compared. The feature decoder is the affine map
that the model derives once from its encoder. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from feature_alignment.core.speed.allocator import reuse_memory
from feature_alignment.models import GAN, VAE, VFAGAN

SHAPES = {
    2: {"image_shape": (1, 28, 28), "channels": (32, 64), "width": 4096},
    3: {"image_shape": (3, 32, 32), "channels": (32, 64, 128), "width": 2048},
    4: {"image_shape": (3, 64, 64), "channels": (32, 64, 128, 256), "width": 4096},
}


def measure(table: int, batch: int, latent: int, repeats: int, device: str) -> dict[str, float]:
    """Return images per second of each decoder of a table's networks, and what the map cost to derive."""
    torch.manual_seed(0)
    ours = VFAGAN(latent=latent, **SHAPES[table]).to(device).eval()
    vae = VAE(latent=latent, **SHAPES[table]).to(device).eval()
    gan = GAN(latent=latent, **SHAPES[table]).to(device).eval()
    codes = torch.randn(batch, latent, device=device)

    sides: dict[str, Callable[[], Tensor]] = {
        "feature": lambda: ours.decode(codes),
        "feature_by_flow": torch.no_grad()(lambda: ours.feature(codes)),
        "decoder": lambda: vae.decode(codes),
        "refined": lambda: ours.refine(ours.decode(codes)),
        "generator": lambda: gan.decode(codes),
    }
    seconds: dict[str, list[float]] = {name: [] for name in sides}

    def timed(side: Callable[[], Tensor]) -> float:
        synchronise = torch.cuda.synchronize if device == "cuda" else (lambda: None)
        synchronise()
        begun = time.perf_counter()
        side()
        synchronise()
        return time.perf_counter() - begun

    derived = timed(sides["feature"])
    difference = float((sides["feature"]() - sides["feature_by_flow"]()).abs().max())
    for repeat in range(repeats + 1):
        for name, side in sides.items():
            taken = timed(side)
            if repeat:  # the first is a warm-up
                seconds[name].append(taken)
    medians = {name: statistics.median(taken) for name, taken in seconds.items()}
    return {
        **{f"{name}_images_per_s": round(batch / median, 1) for name, median in medians.items()},
        "speedup_over_decoder": round(medians["decoder"] / medians["feature"], 1),
        "refined_over_generator": round(medians["generator"] / medians["refined"], 3),
        "derived_once_in_ms": round(1000 * derived, 1),
        "largest_difference_from_flow": difference,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--latent", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--tables", type=int, nargs="+", default=[2, 3, 4], choices=[2, 3, 4])
    parser.add_argument("--json", type=Path, help="also write the result to this file")
    options = parser.parse_args()
    reuse_memory()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    tables = {
        f"table_{table}": measure(table, options.batch, options.latent, options.repeats, device)
        for table in options.tables
    }
    result = {
        "benchmark": "sampling",
        "device": torch.cuda.get_device_name() if device == "cuda" else f"cpu ({torch.get_num_threads()} threads)",
        "torch": torch.__version__,
        "batch": options.batch,
        "latent": options.latent,
        "repeats": options.repeats,
        "speedup_over_decoder": {name: found["speedup_over_decoder"] for name, found in tables.items()},
        **tables,
    }
    print(json.dumps(result, indent=2))
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
