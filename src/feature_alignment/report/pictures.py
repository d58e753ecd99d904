"""Pictures of a model's results: single images, reconstructions, samples, interpolations."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from ..data import Images, to_pixels
from ..extras import require
from ..models.inference import inference
from ..models.model import Model
from . import sheets

__all__ = ["interpolation_picture", "one_of_each", "reconstruction_picture", "sample_picture", "save_image"]

#: Maximum number of classes shown, one column each.
MAX_COLUMNS = 20


def save_image(image: Tensor, path: str | Path) -> None:
    """Write one image in [0, 1], shape ``(C, H, W)``, at its own size."""
    pixels = to_pixels(image)
    picture = require("PIL.Image", "train", "pictures").fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    picture.save(path)


def one_of_each(images: Images, count: int) -> tuple[Tensor, Tensor | None]:
    """Return ``count`` images, sorted by class and evenly spaced over the split.

    Returns:
        Images in [0, 1], float32, shape ``(count, C, H, W)``, and their labels, if any.
    """
    order = torch.arange(len(images)) if images.labels is None else images.labels.argsort(stable=True)
    chosen = order[torch.linspace(0, len(images) - 1, min(count, len(images))).round().long()]
    pixels, labels = images.chosen(chosen)
    return pixels.float() / 255, labels


def reconstruction_picture(
    model: Model, images: Tensor, labels: Tensor | None, path: Path | None = None, *, title: str = "reconstructions"
) -> bytes:
    """Draw images above their reconstructions and, if the model has a refiner, the refined ones.

    Args:
        model: any model.
        images: in [0, 1], shape ``(N, C, H, W)``.
        labels: their classes, or none: a conditional model then infers them.
        path: file to write; none for no file.
        title: of the picture.

    Returns:
        The content of the file.
    """
    if not model.classes:
        labels = None
    elif labels is None:
        labels = model.assumed_labels(images)
    decoded = model.reconstruct(images, labels)
    versions = {"original": images, model.stage: decoded}
    if model.refiner is not None:
        versions["refined"] = model.refine(decoded, labels)
    return sheets.pairs(versions, path, title=title)


@inference
def sample_picture(
    model: Model,
    classes: Sequence[str],
    path: Path | None = None,
    *,
    rows: int = 10,
    columns: list[int] | None = None,
    stress: float = 1.0,
    temperature: float = 1.0,
    seed: int = 0,
) -> bytes:
    """Draw samples, refined if the model has a refiner; one column per class if it is conditional.

    Args:
        model: any model.
        classes: names of its classes.
        path: file to write; none for no file.
        rows: number of samples of each class.
        columns: the classes to show; by default all, at most 20.
        stress: value of the non-zero entry of the one-hot vector.
        temperature: factor on the noise of the latents.
        seed: of the latents.

    Returns:
        The content of the file.
    """
    if model.classes:
        columns = columns or list(range(min(model.classes, MAX_COLUMNS)))
        labels: Tensor | None = torch.tensor(columns).repeat(rows)
        names = [classes[each] if each < len(classes) else str(each) for each in columns]
    else:
        columns, labels, names = list(range(10)), None, []
    generator = torch.Generator().manual_seed(seed)
    images = model.sample(rows * len(columns), labels, stress, generator, temperature=temperature)
    images = images if model.refiner is None else model.refine(images, labels)
    title = "samples, by the class asked for" if names else "samples"
    return sheets.grid(images.unflatten(0, (rows, len(columns))), path, title=title, columns=names)


def interpolation_picture(
    model: Model, latent: Tensor, labels: Tensor | None, path: Path | None = None, *, title: str, size: int = 11
) -> bytes:
    """Draw a square grid of images, interpolated between four corners.

    Args:
        model: any model.
        latent: of the corners, shape ``(4, latent)``: top left, top right, bottom left, bottom right.
        labels: their classes, shape ``(4,)``; required by a conditional model, refused by an unconditional one.
        path: file to write; none for no file.
        title: of the picture.
        size: images along each side.

    Returns:
        The content of the file.
    """
    return sheets.grid(model.interpolate(latent, labels, size), path, title=title, gap=0)
