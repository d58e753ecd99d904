"""How far is layer-local training from end-to-end training of the same decoder?

One network of ``configs/cpu/local.yaml``, decoded by Algorithm 3, is trained in three ways: by Algorithm 2; each layer
by the error of the image that it and the layers before it give back (``loss="image"``); and end to end. Updates, data,
first weights and rates are equal; reported is the squared distance of held-out images. Run it as

    python benchmarks/local_training.py --seeds 0 1 2 --json results/benchmarks/local_training.json
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from feature_alignment.data import DataOptions, TrainingData
from feature_alignment.metrics import reconstruction_error
from feature_alignment.models import Local, Updates
from feature_alignment.models.losses import squared_error
from feature_alignment.models.updates import Loss


class EndToEnd(Local):
    """The same network and way back, trained by the error of the reconstruction."""

    def optimizers(self) -> dict[str, Optimizer]:
        return {"network": self.adam(self.parameters())}

    def training_step(self, images: Tensor, labels: Tensor | None, updates: Updates) -> None:
        def loss() -> Loss:
            error = squared_error(images, self.network.backwards(self.network(images))).mean()
            return Loss(error, {"reconstruction": error.detach()})

        updates.take("network", loss, self.options.clip_gradient)


WAYS: dict[str, tuple[type[Local], dict[str, Any]]] = {
    "Algorithm 2": (Local, {}),
    "loss in the image": (Local, {"loss": "image"}),
    "end to end": (EndToEnd, {}),
}


def error_of(way: str, data: TrainingData, seed: int, updates: int, rate: float) -> dict[str, float]:
    """Train, and return the error of held-out images and the CPU time of an update."""
    kind, options = WAYS[way]
    torch.manual_seed(seed)
    model = kind(
        data.image_shape, latent=32, channels=(8, 16), width=256, learning_rate=rate, schedule="cosine",
        clip_gradient=None if way == "Algorithm 2" else 10.0, **options,
    )  # fmt: skip
    training, batches = Updates(model, updates), data.batches(seed, torch.device("cpu"))
    began = time.process_time()
    for update in range(updates):
        images, labels = batches.batch(update)
        training.step(images, labels)
    seconds = time.process_time() - began
    held_out = data.test().images()
    return {
        "error": reconstruction_error(held_out, model.reconstruct(held_out)),
        "milliseconds an update": round(1000 * seconds / updates, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", default="mnist-mini")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--updates", type=int, default=1500)
    parser.add_argument("--rates", type=float, nargs="+", default=[2e-3])
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    data = TrainingData(DataOptions(asked.data, batch_size=64, labels=False))
    found: dict[str, dict[str, Any]] = {}
    for rate in asked.rates:
        for way in WAYS:
            runs = [error_of(way, data, seed, asked.updates, rate) for seed in asked.seeds]
            errors = [each["error"] if math.isfinite(each["error"]) else None for each in runs]  # none: it diverged
            finite = [each for each in errors if each is not None]
            found[f"{way}, {rate:g}"] = {
                "errors": errors, "mean": statistics.mean(finite) if finite else None,
                "deviation": statistics.stdev(finite) if len(finite) > 1 else None,
                "milliseconds an update": [each["milliseconds an update"] for each in runs],
            }  # fmt: skip
            print(f"{way}, rate {rate:g}: {errors}", flush=True)
            if asked.json:
                result = {"data": asked.data, "seeds": asked.seeds, "updates": asked.updates, "ways": found}
                asked.json.parent.mkdir(parents=True, exist_ok=True)
                asked.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
