"""Images that a model makes, before and after a refiner: reconstructions, and samples with a fitted sampler."""

from __future__ import annotations

import dataclasses
import inspect
from pathlib import Path

import torch
from torch import Tensor

from ...data import Images
from ...extras import MissingExtra, require
from ...metrics.chunks import CHUNK, in_chunks
from ...models import Model
from ...report import one_of_each, sheets
from ...samplers import SAMPLERS, Sampler
from .settings import Method
from .splits import Split, evenly

__all__ = ["decoded", "fitted", "reconstructed", "samplers_of", "write_sheet"]

#: Most training images whose latents a sampler is fitted to.
FITTED = 10_000


def reconstructed(model: Model, images: Tensor, labels: Tensor | None) -> dict[str, Tensor]:
    """Return reconstructions on the CPU by stage, given the labels."""
    parts = []
    for start in range(0, len(images), CHUNK):
        given = None if labels is None else labels[start : start + CHUNK]
        parts.append(stages(model, model.reconstruct(images[start : start + CHUNK].to(model.device), given), given))
    return {stage: torch.cat([part[stage] for part in parts]) for stage in parts[0]}


def samplers_of(method: Method, train: Images) -> list[str]:
    """Return the names of the samplers to compare, but those that need more images, or a library, than there is."""
    return [
        name
        for name in method.samplers or SAMPLERS
        if _installed(getattr(SAMPLERS[name], "needs", None)) and SAMPLERS[name].fewest <= min(FITTED, len(train))
    ]


def write_sheet(model: Model, method: Method, split: Split, seed: int, path: Path) -> None:
    """Draw held-out images, their reconstructions, and samples with each sampler."""
    images, labels = one_of_each(split.held_out, 20)
    chosen = dataclasses.replace(split.held_out, pixels=(255 * images).round().byte(), labels=labels)
    shown = {"held-out image": images, **reconstructed(model, images, labels if model.classes else None)}
    for name in samplers_of(method, split.train):
        made = decoded(model, fitted(name, model, split.train, seed), chosen, seed)
        shown |= {f"sample, {name}" if stage != "refined" else f"refined, {name}": each for stage, each in made.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    sheets.pairs(shown, path, title=f"{method.title}, {model.latent} latents")


def stages(model: Model, images: Tensor, labels: Tensor | None) -> dict[str, Tensor]:
    """Return what the model decoded and, where it can, refines, on the CPU."""
    refined = {} if model.refiner is None else {"refined": model.refine(images, labels).cpu()}
    return {model.stage: images.cpu(), **refined}


def fitted(name: str, model: Model, train: Images, seed: int) -> Sampler:
    """Return a sampler fitted to latents of training images: of a variational model, draws from their posteriors."""
    kind = SAMPLERS[name]
    classes = {"classes": model.classes} if "classes" in inspect.signature(kind).parameters else {}
    sampler = kind(model.latent, **classes)
    if sampler.learns:
        chosen = evenly(train, FITTED)
        torch.manual_seed(seed)
        with torch.no_grad():
            labels = chosen.labels if model.classes else None
            latents = in_chunks(
                lambda *each: _latents(model, *each), chosen.pixels, *([] if labels is None else [labels])
            )
        sampler.fit(latents.cpu(), labels)
    return sampler


def _latents(model: Model, pixels: Tensor, labels: Tensor | None = None) -> Tensor:
    return model.sampled_latents(model.as_floats(pixels.to(model.device)), labels)


def decoded(model: Model, sampler: Sampler, held_out: Images, seed: int) -> dict[str, Tensor]:
    """Return as many samples as there are held-out images, with their labels, by stage, on the CPU."""
    generator, parts = torch.Generator().manual_seed(seed), []
    for start in range(0, len(held_out), CHUNK):
        count = min(CHUNK, len(held_out) - start)
        labels = held_out.labels[start : start + count] if model.classes and held_out.labels is not None else None
        latent = sampler.draw(count, labels, generator).to(model.device, model.dtype)
        parts.append(stages(model, model.decode(latent, labels), labels))
    return {stage: torch.cat([part[stage] for part in parts]) for stage in parts[0]}


def _installed(module: str | None) -> bool:
    if module is None:
        return True
    try:
        require(module, "samplers", "a sampler")
    except MissingExtra:
        return False
    return True
