"""Ablation of the refiner and its adversary, on the features of one encoder that is trained once and then frozen.

The encoder is the quickstart's, with a layered start, on `mnist-mini`. Its features are computed once: of three draws
from the posterior of every training image, and of three draws from the prior, of the same classes. Each variant is
`VFAGAN` with other options, of which only refiner and discriminator are trained, on batches of 64. Prints and, with
`--json`, writes after every variant, of held-out images and as many samples: the squared error of the reconstruction,
the classifier FID of reconstructions and of samples from N(0, I) and from Gaussian mixtures fitted to the training
latents of each class, and the share of samples named as the class asked for; `feature` has the same before the refiner.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass, fields
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor
from torch.optim import Optimizer

from feature_alignment.data import Images, load
from feature_alignment.metrics import class_agreement, classifier_fid, classifier_for, reconstruction_error
from feature_alignment.models import VFA, VFAGAN, Posterior, Updates
from feature_alignment.models.vfa import VFAOptions

BATCH, DRAWS = 64, 3
RECIPE: dict[str, Any] = yaml.safe_load((files("feature_alignment") / "configs/quickstart.yaml").read_text())["model"][
    "init_args"
]
#: Options of the quickstart's encoder, without those of refiner and discriminator.
ENCODER: dict[str, Any] = {"classes": 10, "latent": RECIPE["latent"]} | {
    option.name: RECIPE[option.name] for option in fields(VFAOptions) if option.name in RECIPE
}
PAPER: dict[str, Any] = {
    "refiner_filters": 16, "refiner_kernel": 5, "perceptual_weight": 1.0,
    **{name: RECIPE[name] for name in ("refiner_rate", "discriminator_width", "discriminator_rate")},
}  # fmt: skip
#: Each adds to the one before it.
ADDED: dict[str, dict[str, Any]] = {
    "paper": PAPER,
    "residual": {"refiner": "residual", "refiner_filters": 32, "refiner_kernel": 3},
    "relativistic": {"adversarial": "relativistic"},
    "projection": {"projection": True},
    "averaged": {"average_weights": 0.99},
    "smaller perceptual weight": {"perceptual_weight": 0.3},
    "weaker penalty": {"penalty_weight": 0.1},
    "augmented": {"augment": ["translation"]},
}
VARIANTS: dict[str, dict[str, Any]] = {}
for name, added in ADDED.items():
    VARIANTS[name] = {**(list(VARIANTS.values())[-1] if VARIANTS else {}), **added}


class Frozen(VFAGAN):
    """The model with an encoder that is not trained, and with features computed beforehand."""

    features: Features
    chosen: Tensor  #: indices of the batch's images
    draw: int  #: which of the draws

    def optimizers(self) -> dict[str, Optimizer]:
        return {name: each for name, each in super().optimizers().items() if name != "encoder"}

    def encoder_update(self, images: Tensor, labels: Tensor | None, updates: Updates) -> tuple[Posterior, Tensor]:
        found = self.features
        mean, log_variance = found.mean[self.chosen], found.log_variance[self.chosen]
        return Posterior(mean, log_variance, mean[:, :0]), found.of_images[self.draw, self.chosen]

    def _from_prior(self, *_: Any) -> Tensor:
        return self.features.of_prior[self.draw, self.chosen]


@dataclass
class Features:
    """Posteriors of the training images and the features trained and measured on, by where their latents are from."""

    mean: Tensor
    log_variance: Tensor
    of_images: Tensor
    of_prior: Tensor
    held_out: dict[str, Tensor]

    @classmethod
    @torch.no_grad()
    def of(cls, encoder: VFA, train: Images, test: Images) -> Features:
        """Evaluate the encoder on a data set."""

        def decoded(latent: Tensor, labels: Tensor) -> Tensor:
            parts = zip(latent.split(250), labels.split(250), strict=True)
            return torch.cat([encoder.decode(*part) for part in parts])

        posteriors = [encoder.posterior(each) for each in train.images().split(250)]
        mean, log_variance = (torch.cat([each[part] for each in posteriors]) for part in (0, 1))
        posterior, labels = Posterior(mean, log_variance, mean[:, :0]), _labels(train)
        latents = {
            "reconstruction": torch.cat([encoder.encode(each) for each in test.images().split(250)]),
            "normal": torch.randn(len(test), encoder.latent),
            "mixture": _from_mixtures(posterior.draw(), labels, _labels(test)),
        }
        return cls(
            mean,
            log_variance,
            torch.stack([decoded(posterior.draw(), labels) for _ in range(DRAWS)]),
            torch.stack([decoded(torch.randn_like(mean), labels) for _ in range(DRAWS)]),
            {name: decoded(each, _labels(test)) for name, each in latents.items()},
        )


def _from_mixtures(latents: Tensor, labels: Tensor, wanted: Tensor) -> Tensor:
    """Draw a latent for each class in ``wanted`` from a mixture of two Gaussians fitted to the latents of its class."""
    from sklearn.mixture import GaussianMixture

    drawn = latents.new_empty(len(wanted), latents.shape[1])
    for label in wanted.unique():
        mixture = GaussianMixture(2, random_state=0, reg_covar=1e-3).fit(latents[labels == label].double().numpy())
        samples = torch.from_numpy(mixture.sample(int((wanted == label).sum()))[0])
        drawn[wanted == label] = samples[torch.randperm(len(samples))].to(drawn)
    return drawn


def _labels(images: Images) -> Tensor:
    assert images.labels is not None
    return images.labels


def trained_encoder(directory: Path | None, updates: int, train: Images) -> VFA:
    """Return the encoder saved in a directory, or train it and, given a directory, save it there."""
    if directory is not None and (directory / "config.json").is_file():
        return VFA.from_pretrained(directory)
    torch.manual_seed(0)
    encoder, images, labels = VFA(train.shape, **ENCODER), train.images(), _labels(train)
    loop = Updates(encoder, updates)
    for number in range(updates):
        torch.manual_seed(number)
        chosen = torch.randint(len(images), (BATCH,))
        loop.step(images[chosen], labels[chosen])
    if directory is not None:
        encoder.eval().save_pretrained(directory)
    return encoder.eval()


def trained(
    encoder: VFA, features: Features, train: Images, options: dict[str, Any], updates: int, seed: int
) -> Frozen:
    """Return the model of a variant, its refiner and discriminator trained."""
    torch.manual_seed(seed)
    model = Frozen(train.shape, **{**ENCODER, **options})
    model.load_state_dict(encoder.state_dict(), strict=False)
    model.features = features
    loop, images, labels = Updates(model, updates), train.images(), _labels(train)
    for number in range(updates):
        torch.manual_seed(seed * 1_000_003 + number)
        model.chosen, model.draw = torch.randint(len(images), (BATCH,)), int(torch.randint(DRAWS, ()))
        loop.step(images[model.chosen], labels[model.chosen])
    return model.eval()


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Measure all variants."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--updates", type=int, default=600, help="of refiner and discriminator")
    parser.add_argument("--encoder-updates", type=int, default=1500)
    parser.add_argument("--encoder", type=Path, help="directory to load the encoder from, or to save it in")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--variants", type=json.loads, default=VARIANTS, help="JSON: options of each, by name")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    train, test = load("mnist-mini", "train"), load("mnist-mini", "test")
    encoder = trained_encoder(options.encoder, options.encoder_updates, train)
    torch.manual_seed(0)
    features, classifier = Features.of(encoder, train, test), classifier_for(train)
    real, labels = test.images(), _labels(test)

    def measured(images: dict[str, Tensor]) -> dict[str, float]:
        result = {"error": reconstruction_error(real, images["reconstruction"])}
        for name, each in images.items():
            result[f"classifier_fid_{name}"] = classifier_fid(classifier, real, each)
            result[f"named_{name}"] = class_agreement(classifier, each, labels)
        return {name: round(value, 3) for name, value in result.items()}

    result: dict[str, Any] = {"updates": options.updates, "seed": options.seed, "feature": measured(features.held_out)}
    print(json.dumps({"feature": result["feature"]}), flush=True)
    for name, variant in options.variants.items():
        begun = time.process_time()
        model = trained(encoder, features, train, variant, options.updates, options.seed)
        seconds = round(time.process_time() - begun, 1)
        refined = {key: model.refine(each, labels) for key, each in features.held_out.items()}
        result[name] = {**measured(refined), "cpu_seconds": seconds, "options": variant}
        print(json.dumps({name: result[name]}), flush=True)
        if options.json:
            options.json.write_text(json.dumps(result, indent=2) + "\n")
    return result


if __name__ == "__main__":
    main()
