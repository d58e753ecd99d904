"""Anomaly detection on Fashion-MNIST, one class against the others: FA beside an autoencoder.

For each class two models are trained on its training images alone, with the same encoder and the same number of
updates; the score of a test image is its reconstruction error. AUROC is the probability that an image of another class
scores higher than one of this class: 0.5 is chance, 1 perfect. Prints one JSON object; with ``--json`` it is written
after every model, and a later call with the same settings goes on from there.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from feature_alignment.data import Batches, DataError, Images, load
from feature_alignment.extras import require
from feature_alignment.files import write_atomically
from feature_alignment.metrics.anomaly import error_maps
from feature_alignment.metrics.chunks import in_chunks
from feature_alignment.models import AE, FA, Model, Updates

#: Of both: the rate is neither's best, as neither was searched for.
COMMON = {
    "channels": (8, 16), "width": 256, "activation": "silu", "activate_width": True, "learning_rate": 2e-3,
    "schedule": "cosine", "clip_gradient": 10.0,
}  # fmt: skip
MODELS: dict[str, tuple[type[Model], dict[str, Any]]] = {
    "fa": (
        FA,
        {
            "start": "layers", "steps": 1, "step_size": 4.0, "learn_step_size": True, "max_step": 20.0,
            "further_steps": 15, "squash": "every", "clamp_inputs": 0.0,
        },
    ),
    "ae": (AE, {}),
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--latent", type=int, default=16)
    parser.add_argument("--updates", type=int, default=300)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--classes", nargs="+", type=int, default=list(range(10)), help="by number")
    parser.add_argument("--limit", type=int, default=3000, help="test images, drawn at random (default: %(default)s)")
    parser.add_argument("--data", default="fashion-mnist", help="a data set with classes (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="also write the result to this file")
    options = parser.parse_args()
    try:
        train, test = load(options.data, "train"), load(options.data, "test")
    except DataError as error:
        sys.exit(f"anomaly: {error}")
    print(json.dumps(compared(train, test, options), indent=2))


def compared(train: Images, test: Images, options: argparse.Namespace) -> dict[str, Any]:
    """Return the AUROC of every class and model by seed, the means, and deviations over seeds of the classes' mean."""
    settings = {key: getattr(options, key) for key in ("data", "latent", "updates", "batch", "seeds", "limit")}
    result = begun(options.json, {"benchmark": "anomaly", **settings})
    for label in options.classes:
        for name in MODELS:
            of_model = result["auroc"].setdefault(name, {})
            if train.classes[label] not in of_model:
                of_model[train.classes[label]] = measured(name, label, train, test, options)
                print(name, train.classes[label], of_model[train.classes[label]], file=sys.stderr, flush=True)
                by_seed = {
                    name: [statistics.mean(each) for each in zip(*found.values(), strict=True)]
                    for name, found in result["auroc"].items()
                }
                result["mean"] = {name: statistics.mean(each) for name, each in by_seed.items()}
                if len(options.seeds) > 1:
                    result["deviation"] = {name: statistics.stdev(each) for name, each in by_seed.items()}
                if options.json:
                    write_atomically(options.json, json.dumps(result, indent=2) + "\n")
    return result


def begun(path: Path | None, settings: dict[str, Any]) -> dict[str, Any]:
    """Return the result so far, if there is one with the same settings."""
    found = json.loads(path.read_text()) if path and path.exists() else {}
    if all(found.get(key) == value for key, value in settings.items()):
        return found
    parameters = {
        name: sum(each.numel() for each in built(name, (1, 28, 28), settings["latent"]).parameters()) / 1e6
        for name in MODELS
    }
    facts = {"device": f"cpu ({torch.get_num_threads()} threads)", "torch": torch.__version__}
    return {**settings, **facts, "parameters_in_millions": parameters, "auroc": {}}


def measured(name: str, label: int, train: Images, test: Images, options: argparse.Namespace) -> list[float]:
    """Return the AUROC for a class, by seed."""
    values = []
    for seed in options.seeds:
        torch.manual_seed(seed)
        model = built(name, train.shape, options.latent)
        training = Updates(model, options.updates)
        batches = Batches(of_class(train, label), options.batch, seed)
        for update in range(options.updates):
            training.step(batches.batch(update)[0])
        values.append(auroc(model.eval(), test, label, options.limit))
    return values


def built(name: str, shape: tuple[int, ...], latent: int) -> Model:
    kind, options = MODELS[name]
    return kind(shape, latent=latent, **COMMON | options)


def of_class(images: Images, label: int) -> Images:
    return replace(images, pixels=images.pixels[images.labels == label], labels=None)


def auroc(model: Model, test: Images, label: int, limit: int | None) -> float:
    order = torch.randperm(len(test), generator=torch.Generator().manual_seed(0))[:limit]
    pixels, labels = test.pixels[order], test.labels[order]
    scores = in_chunks(lambda each: errors(model, each), pixels)
    area = require("torchmetrics.functional.classification", "train", "AUROC").binary_auroc
    return float(area(scores, (labels != label).long()))


def errors(model: Model, pixels: Tensor) -> Tensor:
    images = model.as_floats(pixels)
    return error_maps(images, model.reconstruct(images)).flatten(1).sum(1)


if __name__ == "__main__":
    main()
