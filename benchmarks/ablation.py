"""What of the layered start and its correction lowers the error, and what of the conditional model: each is taken away.

The feature of `falign reproduce quality`, with the learning rate and activation that its search chose, on `mnist-mini`;
each variant is trained with the whole schedule and its error measured on the held-out images:

* the autoencoder with a mirrored decoder, with the learning rate and activation of its own search;
* the start alone (T = 0: the encoder run backwards stage by stage, an autoencoder with tied weights);
* the correction alone: T = 1, 2 and 3 steps in logit space from a learned start that all images share;
* both, for T = 1 and 2; without the bound on a step's length; and trained for further steps, as in the table;
* both, with the encoder cut into fewer stages: those next to the image are joined.

And the conditional variational feature, of which samples are measured too:

* the conditional VAE, with the learning rate and activation of its own search;
* the feature as in the table; without priors of the classes; for T = 2; with equal weights of its latents; with class
  scores aligned in the place of probabilities, at the weight of 3 that they had before; and trained for further steps,
  as the feature without a prior.

Samples of the mixture are measured after more steps than were trained, too.

A variant that the JSON has is not trained again. Run it as

    python benchmarks/ablation.py --entries results/quality/mnist-mini --json results/benchmarks/ablation.json
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

from feature_alignment import models
from feature_alignment.core.layered_start import cut
from feature_alignment.metrics import classifier_fid, classifier_for, reconstruction_error
from feature_alignment.models import FA, Model, Updates
from feature_alignment.models.networks import Encoder, orthogonal_
from feature_alignment.reproduce.quality.entries import Folder
from feature_alignment.reproduce.quality.measures import criterion, measure
from feature_alignment.reproduce.quality.samples import decoded, fitted, reconstructed
from feature_alignment.reproduce.quality.search import chosen
from feature_alignment.reproduce.quality.settings import Method, plan
from feature_alignment.reproduce.quality.splits import Given, Sets, Split

NO_MORE = {"further_steps": 0}
SHARED = {"start": "learned", "max_step": None, **NO_MORE}
LABELLED = "vfa-conditional"
#: Numbers of steps after which samples are measured.
SAMPLED_AFTER = (1, 2, 4, 16)
#: Name of the model in the table, and the options that differ from its.
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "autoencoder": ("ae", {}),
    "start alone": ("fa", {"steps": 0, **NO_MORE}),
    "correction alone, T = 1": ("fa", {"steps": 1, **SHARED}),
    "correction alone, T = 2": ("fa", {"steps": 2, **SHARED}),
    "correction alone, T = 3": ("fa", {"steps": 3, **SHARED}),
    "both, T = 1": ("fa", {"steps": 1, **NO_MORE}),
    "both, T = 1, no bound": ("fa", {"steps": 1, "max_step": None, **NO_MORE}),
    "both, T = 2": ("fa", {"steps": 2, **NO_MORE}),
    "both, T = 2, no bound": ("fa", {"steps": 2, "max_step": None, **NO_MORE}),
    "both, T = 1, further steps": ("fa", {"steps": 1}),
    "both, T = 1, 2 stages": ("fa", {"steps": 1, "stages": 2, **NO_MORE}),
    "both, T = 1, 3 stages": ("fa", {"steps": 1, "stages": 3, **NO_MORE}),
    "both, T = 1, 4 stages": ("fa", {"steps": 1, "stages": 4, **NO_MORE}),
    "conditional VAE": ("vae-conditional", {}),
    "conditional feature, T = 1": (LABELLED, {}),
    "conditional feature, T = 1, one prior": (LABELLED, {"class_prior": False}),
    "conditional feature, T = 2": (LABELLED, {"steps": 2}),
    "conditional feature, T = 1, equal weights": (LABELLED, {"learn_weights": False}),
    "conditional feature, T = 1, scores": (LABELLED, {"class_branch": "scores", "class_weight": 3.0}),
    "conditional feature, T = 1, further steps": (LABELLED, {"further_steps": 15}),
}


def joined(encoder: Encoder, count: int) -> list[nn.Module]:
    """Return an encoder as ``count - 1`` stages, the heads being the last: the first joins what is too many."""
    stages = cut(encoder)
    many = len(stages) + 2 - count
    return [nn.Sequential(*stages[:many]), *stages[many:]]


def built(method: Method, shape: tuple[int, ...], options: dict[str, Any]) -> Model:
    """Return a model of the table; the encoder of a feature is cut into as many stages as the options ask for."""
    count = options.pop("stages", None)
    kind: type[Model] = getattr(models, method.model)
    if count is None:
        return kind(shape, **options)
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


def measured(model: Model, method: Method, split: Split, seed: int) -> dict[str, Any]:
    """Return the error on held-out images; of a conditional model the negative bound and measures of samples too."""
    images, labels = split.held_out.images(), split.held_out.labels if method.labels else None
    found: dict[str, Any] = {"error": reconstruction_error(images, reconstructed(model, images, labels)[model.stage])}
    if method.labels:
        found["elbo"] = criterion("elbo", model, split, seed)
        found |= measure(model, method, split, seed, {"reconstruction_error": found["error"]})
        del found["reconstruction_error"]
    if method.labels and isinstance(model, FA):
        found["mixture_fid_by_steps"] = {str(steps): distance(model, split, seed, steps) for steps in SAMPLED_AFTER}
    return found


def distance(model: FA, split: Split, seed: int, steps: int) -> float:
    """Return the classifier FID of features of draws from the mixture after a number of steps."""
    options, model.options = model.options, dataclasses.replace(model.options, decode_steps=steps)
    samples = decoded(model, fitted("mixture", model, split.train, seed), split.held_out, seed)[model.stage]
    model.options = options
    return classifier_fid(classifier_for(split.train), split.held_out.images(), samples)


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Train and measure all variants."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="mnist-mini")
    parser.add_argument("--entries", type=Path, help="a folder of falign reproduce quality, with the searches' results")
    parser.add_argument("--latent", type=int, default=64)
    parser.add_argument("--updates", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--variants", nargs="+", default=[*VARIANTS])
    parser.add_argument("--json", type=Path, required=True)
    asked = parser.parse_args(arguments)
    torch.set_num_threads(1)
    sets = Sets(asked.data)
    methods = {VARIANTS[name][0] for name in asked.variants}
    settings, folder = plan("cpu", sets.train.shape, sorted(methods)), Folder(asked.entries)
    best = {name: chosen(method, settings, folder) for name, method in settings.methods.items()}
    found: dict[str, Any] = json.loads(asked.json.read_text()) if asked.json.is_file() else {}
    found |= {"data": asked.data, "latent": asked.latent, "updates": asked.updates, "seed": asked.seed}
    found["chosen"] = found.get("chosen", {}) | best
    for name in asked.variants:
        if name in found.setdefault("variants", {}):
            continue
        method, others = settings.methods[VARIANTS[name][0]], VARIANTS[name][1]
        searched = best[method.name]
        assert searched is not None, f"--entries {asked.entries}: the search of {method.name} is not finished"
        data = Given(sets.train, settings.batch_size, method.labels)
        options = {
            **method.options, "latent": asked.latent, **({"classes": data.classes} if data.classes else {}),
            **{key: searched[key] for key in ("learning_rate", "activation")}, **others,
        }  # fmt: skip
        torch.manual_seed(asked.seed)
        model = built(method, sets.train.shape, options)
        facts = trained(model, data, asked.updates, asked.seed)
        found["variants"][name] = measured(model.eval(), method, sets.table, asked.seed) | facts
        print(name, found["variants"][name], flush=True)
        asked.json.write_text(json.dumps(found, indent=1) + "\n")
    return found


if __name__ == "__main__":
    main()
