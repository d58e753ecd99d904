"""What of the layered start and its correction lowers the error: each is taken away in turn.

The feature of `falign reproduce quality`, with the learning rate and activation that its search chose, on `mnist-mini`;
each variant is trained with the whole schedule and its error measured on the held-out images:

* the autoencoder with a mirrored decoder, with the learning rate and activation of its own search;
* the start alone (T = 0: the encoder run backwards stage by stage, an autoencoder with tied weights);
* the correction alone: T = 1, 2 and 3 steps in logit space from a learned start that all images share;
* both, for T = 1 and 2; without the bound on a step's length; and trained for further steps, as in the table;
* both, with the encoder cut into fewer stages: those next to the image are joined.

A variant that the JSON has is not trained again. Run it as

    python benchmarks/ablation.py --entries results/quality/mnist-mini --json results/benchmarks/ablation.json
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

from feature_alignment.core.layered_start import cut
from feature_alignment.metrics import reconstruction_error
from feature_alignment.models import AE, FA, Model, Updates
from feature_alignment.models.networks import Encoder, orthogonal_
from feature_alignment.reproduce.quality.entries import Folder
from feature_alignment.reproduce.quality.search import chosen
from feature_alignment.reproduce.quality.settings import plan
from feature_alignment.reproduce.quality.splits import Given, Sets

NO_MORE = {"further_steps": 0}
SHARED = {"start": "learned", "max_step": None, **NO_MORE}
#: Options that differ from the feature's of the table.
VARIANTS: dict[str, dict[str, Any]] = {
    "start alone": {"steps": 0, **NO_MORE},
    "correction alone, T = 1": {"steps": 1, **SHARED},
    "correction alone, T = 2": {"steps": 2, **SHARED},
    "correction alone, T = 3": {"steps": 3, **SHARED},
    "both, T = 1": {"steps": 1, **NO_MORE},
    "both, T = 1, no bound": {"steps": 1, "max_step": None, **NO_MORE},
    "both, T = 2": {"steps": 2, **NO_MORE},
    "both, T = 2, no bound": {"steps": 2, "max_step": None, **NO_MORE},
    "both, T = 1, further steps": {"steps": 1},
    "both, T = 1, 2 stages": {"steps": 1, "stages": 2, **NO_MORE},
    "both, T = 1, 3 stages": {"steps": 1, "stages": 3, **NO_MORE},
    "both, T = 1, 4 stages": {"steps": 1, "stages": 4, **NO_MORE},
}
AUTOENCODER = "autoencoder"


def joined(encoder: Encoder, count: int) -> list[nn.Module]:
    """Return an encoder as ``count - 1`` stages, the heads being the last: the first joins what is too many."""
    stages = cut(encoder)
    many = len(stages) + 2 - count
    return [nn.Sequential(*stages[:many]), *stages[many:]]


def feature(shape: tuple[int, ...], options: dict[str, Any]) -> FA:
    """Return a feature whose encoder is cut into as many stages as the options ask for."""
    count = options.pop("stages", None)
    if count is None:
        return FA(shape, **options)
    encoder = Encoder(shape, *(options[name] for name in ("channels", "width", "activation", "activate_width")))
    encoder.apply(orthogonal_)
    return FA(shape, encoder=encoder, stages=joined(encoder, count), **options)


def trained(model: Model, data: Given, updates: int, seed: int) -> dict[str, Any]:
    """Train a model; return its error on held-out images, its parameters and the CPU time of an update."""
    training, batches, began = Updates(model, updates), data.batches(seed), time.process_time()
    for update in range(updates):
        training.step(*batches.batch(update))
    taken = 1000 * (time.process_time() - began) / updates
    parameters = sum(each.numel() for each in model.parameters() if each.requires_grad)
    return {"parameters": parameters, "cpu_ms_an_update": round(taken, 1)}


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Train and measure all variants."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="mnist-mini")
    parser.add_argument("--entries", type=Path, help="a folder of falign reproduce quality, with the searches' results")
    parser.add_argument("--latent", type=int, default=64)
    parser.add_argument("--updates", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--variants", nargs="+", default=[AUTOENCODER, *VARIANTS])
    parser.add_argument("--json", type=Path, required=True)
    asked = parser.parse_args(arguments)
    torch.set_num_threads(1)
    sets = Sets(asked.data)
    settings, folder = plan("cpu", sets.train.shape, ["ae", "fa"]), Folder(asked.entries)
    best = {name: chosen(method, settings, folder) for name, method in settings.methods.items()}
    found: dict[str, Any] = json.loads(asked.json.read_text()) if asked.json.is_file() else {}
    found |= {"data": asked.data, "latent": asked.latent, "updates": asked.updates, "seed": asked.seed, "chosen": best}
    for name in asked.variants:
        if name in found.setdefault("variants", {}):
            continue
        method = "ae" if name == AUTOENCODER else "fa"
        assert best[method] is not None, f"--entries {asked.entries}: the search of {method} is not finished"
        options = {
            **settings.methods[method].options, "latent": asked.latent,
            **{key: best[method][key] for key in ("learning_rate", "activation")},
            **VARIANTS.get(name, {}),
        }  # fmt: skip
        data = Given(sets.train, settings.batch_size, labels=False)
        torch.manual_seed(asked.seed)
        model = AE(sets.train.shape, **options) if method == "ae" else feature(sets.train.shape, options)
        facts = trained(model, data, asked.updates, asked.seed)
        images = sets.table.held_out.images()
        found["variants"][name] = {"error": reconstruction_error(images, model.eval().reconstruct(images)), **facts}
        print(name, found["variants"][name], flush=True)
        asked.json.write_text(json.dumps(found, indent=1) + "\n")
    return found


if __name__ == "__main__":
    main()
