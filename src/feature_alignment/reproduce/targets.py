"""The paper's tables and figures, each one function from a study to a result."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..data import DataError
from ..metrics import MEASURES
from ..report import pictures as figures
from ..report.run_report import interpolation_picture, one_of_each, sample_picture
from .appendix import appendix_a
from .page import Result, Table
from .settings import PaperSet
from .study import Study, cell

__all__ = ["PAPER_TABLE_1", "TARGETS", "Target", "targets_of"]

#: Table 1 of the paper: FID of 10,000 samples, mean and standard deviation of three trainings.
PAPER_TABLE_1: dict[str, dict[PaperSet, tuple[float, float]]] = {
    "VAE": {"MNIST": (39.84, 0.15), "CelebA": (84.84, 0.10), "CIFAR-10": (163.59, 0.37)},
    "GAN": {"MNIST": (21.50, 2.79), "CelebA": (32.85, 1.22), "CIFAR-10": (63.39, 0.62)},
    "feature": {"MNIST": (120.02, 1.11), "CelebA": (143.51, 1.04), "CIFAR-10": (209.32, 1.96)},
    "refined": {"MNIST": (41.24, 2.71), "CelebA": (132.18, 2.73), "CIFAR-10": (73.20, 2.67)},
}

#: The methods compared: name to the model's row and the stage of its images.
METHODS = {
    "AE": ("ae", "decoded"),
    "VAE": ("vae", "decoded"),
    "GAN": ("gan", "decoded"),
    "feature": ("vfa-gan", "feature"),
    "refined": ("vfa-gan", "refined"),
}

TOLD = "The feature and the refined image are told the class of the image; AE, VAE and GAN are not."


def table_1(study: Study) -> Result:
    """Compare samples: FID, or what stands in for it, of VAE, GAN, features and refined features."""
    names = [name for name in ("fid", "kid", "classifier_fid") if study.measure("vae", name, "decoded")]
    rows: dict[str, list[object]] = {}
    for method, paper in PAPER_TABLE_1.items():
        mean, deviation = paper[study.like]
        measured = [study.measure(*_with(METHODS[method], name)) for name in names]
        rows[method] = [*measured, {"values": [], "mean": mean, "std": deviation}]
    rows["real images"] = [*(study.measure("vae", name, "reference") for name in names), None]
    decisive = "fid" if "fid" in names else "classifier_fid"
    ours = [method for method in PAPER_TABLE_1 if rows[method][names.index(decisive)]]
    ours.sort(key=lambda method: _mean(rows[method][names.index(decisive)]))
    theirs = sorted(PAPER_TABLE_1, key=lambda method: PAPER_TABLE_1[method][study.like][0])
    title = MEASURES[decisive].title
    bars = {method: _bar(rows[method][names.index(decisive)]) for method in rows}
    figures.bars(bars, study.directory / "table1.png", title=f"{title}, {study.name}", unit=title)
    notes = [f"Best to worst by {title}: {', '.join(ours)}; by the paper's FID on {study.like}: {', '.join(theirs)}."]
    if decisive != "fid":
        notes.append(
            "FID needs the weights of Inception-v3, which were not there. The classifier FID is the same formula "
            "(equation 8) on the features of a small classifier trained on this data set: its numbers are not "
            "comparable with the paper's FID, only the order of the methods is."
        )
    if study.name != {"MNIST": "mnist", "CIFAR-10": "cifar10", "CelebA": "celeba"}[study.like]:
        notes.append(f"The paper's column is for {study.like}; this is {study.name}.")
    notes += study.metrics("vae")[0].get("notes", {}).values() if "fid" in names else []
    return Result(
        "table1",
        "distance of samples to held-out images, lower is better",
        f"FID on {study.like}: the GAN is best, the refined feature comes near to the VAE or passes it, the feature "
        "alone is worst."
        if study.like != "CelebA"
        else "FID on CelebA: the GAN is best, then the VAE; the refined feature is little better than the feature.",
        Table([*(MEASURES[name].title for name in names), f"the paper: FID on {study.like}"], rows),
        {"table1.png": f"{title}, mean and standard deviation over seeds"},
        notes,
    )


def figure_5a(study: Study) -> Result:
    """Show the latent space of two neurons."""
    images, labels = one_of_each(study.test, 1000)
    means = study.model("vfa-2d").encode(images).cpu()
    figures.scatter(
        means, labels, study.test.classes, study.directory / "fig5a.png", title="held-out images, two latent neurons"
    )
    rows: dict[str, list[object]] = {}
    notes = []
    if labels is not None:
        shares = [
            _neighbours_agree(study.run("vfa-2d", seed).model().encode(images).cpu(), labels) for seed in study.seeds
        ]
        rows["share of the ten nearest latents that are of an image's own class"] = [cell(shares)]
        rows["the same by chance"] = [float(torch.bincount(labels).double().div(len(labels)).square().sum())]
    else:
        notes.append("This data set has no labels: whether the clusters mean anything is for the eye.")
    rows["reconstruction error"] = [study.measure("vfa-2d", "reconstruction_error", "feature")]
    return Result(
        "fig5a",
        "latent space of two neurons",
        "trained with two latent neurons, the network tends to cluster similar images.",
        Table(["measured"], rows),
        {"fig5a.png": "Posterior means of held-out images, coloured by class."},
        notes,
    )


def _neighbours_agree(points: Tensor, labels: Tensor, count: int = 10) -> float:
    """Return the mean share of each point's ``count`` nearest that have its label."""
    distances = torch.cdist(points.double(), points.double()).fill_diagonal_(torch.inf)
    nearest = distances.topk(min(count, len(points) - 1), largest=False).indices
    return float((labels[nearest] == labels[:, None]).double().mean())


def figure_5b(study: Study) -> Result:
    """Show one latent under every class."""
    model = study.model("vfa-gan")
    if not model.classes:
        raise DataError(f"fig5b: needs a data set with classes, {study.name} has none")
    classes = min(model.classes, 20)
    latent = model.encode(one_of_each(study.test, 5)[0])
    labels = torch.arange(classes).repeat(5)
    features = model.decode(latent.repeat_interleave(classes, 0), labels)
    names = study.test.classes[:classes]
    refined = model.refine(features, labels)
    for name, images in (("fig5b", features), ("fig5b-refined", refined)):
        figures.grid(
            images.unflatten(0, (5, classes)), study.directory / f"{name}.png", columns=names, title=f"{study.name}"
        )
    stresses = (0.5, 1.0, 2.0, 4.0)
    stressed = torch.stack([model.decode(latent[:1].expand(classes, -1), labels[:classes], each) for each in stresses])
    figures.grid(
        stressed,
        study.directory / "fig5b-stress.png",
        columns=names,
        rows=[f"{each:g}" for each in stresses],
        title="value of the one-hot vector's one",
    )
    rows: dict[str, list[object]] = {
        f"samples named as the class asked for, {stage}": [study.measure("vfa-gan", "class_agreement", stage)]
        for stage in ("feature", "refined", "reference")
    }
    return Result(
        "fig5b",
        "one latent under every class",
        "with a fixed latent vector, the class vector alone makes images of every class.",
        Table(["share"], rows),
        {
            "fig5b.png": "Features; a row is the latent of one held-out image, a column a class.",
            "fig5b-refined.png": "The same, refined.",
            "fig5b-stress.png": "The first row's latent with a class vector of other sizes (the stress factor).",
        },
        ["'reference' is the classifier's share on held-out images."],
    )


def reconstructions(target: str, study: Study, claim: str) -> Result:
    """Show held-out images reconstructed by every model."""
    images, labels = one_of_each(study.test, 10)
    versions = {"original": images}
    for method, (row, stage) in METHODS.items():
        model = study.model(row)
        told = labels if model.classes else None
        decoded = model.reconstruct(images, told)
        versions[method] = model.refine(decoded, told) if stage == "refined" else decoded
    figures.pairs(versions, study.directory / f"{target}.png", title=f"{study.name}, held-out images")
    names = ["reconstruction_error", "psnr", "ssim"]
    rows: dict[str, list[object]] = {
        method: [study.measure(row, name, stage) for name in names] for method, (row, stage) in METHODS.items()
    }
    rows["mean image"] = [study.measure("ae", name, "reference") for name in names]
    return Result(
        target,
        "reconstructions of held-out images",
        claim,
        Table([MEASURES[name].title for name in names], rows),
        {f"{target}.png": "Held-out images and what each model makes of them; the GAN by a search in its latents."},
        [TOLD] if study.model("vfa-gan").classes else [],
    )


def samples_and_interpolation(target: str, study: Study, claim: str, *, random: bool) -> Result:
    """Show samples, and images between four corners: held-out images, or two sets of draws from the prior."""
    model, pictures = study.model("vfa-gan"), {}
    if random:
        for number in (1, 2):
            generator = torch.Generator().manual_seed(number)
            latent = model.prior(4, generator)
            labels = torch.randint(model.classes, (4,), generator=generator) if model.classes else None
            path = study.directory / f"{target}-{number}.png"
            interpolation_picture(model, latent, labels, path, title="between four draws from the prior")
            pictures[path.name] = f"Set {number}: refined images between four draws from the prior, in the corners."
    else:
        sample_picture(model, study.test.classes, study.directory / f"{target}-samples.png")
        corners, labels = one_of_each(study.test, 4)
        path = study.directory / f"{target}-interpolation.png"
        told = labels if model.classes else None
        interpolation_picture(model, model.encode(corners), told, path, title="between four held-out images")
        pictures[f"{target}-samples.png"] = "Refined samples from the prior, a column a class if there are classes."
        pictures[path.name] = "Refined images between four held-out images, whose reconstructions are in the corners."
    names = ["classifier_fid", *(name for name in ("fid", "class_agreement") if study.measure(*_with(REFINED, name)))]
    rows: dict[str, list[object]] = {
        stage: [study.measure("vfa-gan", name, stage) for name in names]
        for stage in ("feature", "refined", "reference")
    }
    table = Table([MEASURES[name].title for name in names], rows)
    return Result(target, "samples and interpolation" if not random else "interpolation", claim, table, pictures)


REFINED = METHODS["refined"]


def figure_12(study: Study) -> Result:
    """Compare the reconstruction error of all models."""
    rows: dict[str, list[object]] = {
        method: [study.measure(row, "reconstruction_error", stage)] for method, (row, stage) in METHODS.items()
    }
    bars = {method: _bar(cells[0]) for method, cells in rows.items()}
    rows["mean image"] = [study.measure("ae", "reconstruction_error", "reference")]
    title = f"reconstruction error, {study.name}"
    figures.bars(bars, study.directory / "fig12.png", title=title, unit="squared distance per image")
    order = sorted(bars, key=lambda method: bars[method][0])
    notes = [f"Lowest to highest: {', '.join(order)}."]
    return Result(
        "fig12",
        "reconstruction error of AE, VAE, GAN, feature and refined feature",
        "the autoencoder has the lowest loss; the feature compares with the VAE and the refined feature with the GAN.",
        Table(["squared distance per image"], rows),
        {"fig12.png": "Mean and standard deviation over seeds; held-out images."},
        [*notes, TOLD] if study.model("vfa-gan").classes else notes,
    )


def local(target: str, study: Study) -> Result:
    """Show reconstructions by local feature alignment."""
    model = study.model("local")
    images, _ = one_of_each(study.test, 20)
    versions = {"reconstruction": model.reconstruct(images), "original": images}
    figures.pairs(versions, study.directory / f"{target}.png", title=f"{study.name}, local feature alignment")
    names = ["reconstruction_error", "psnr", "ssim"]
    rows: dict[str, list[object]] = {
        "local": [study.measure("local", name, "feature") for name in names],
        "mean image": [study.measure("local", name, "reference") for name in names],
    }
    return Result(
        target,
        "reconstruction by local feature alignment",
        "layers that learn only to predict their own inputs still reconstruct the image.",
        Table([MEASURES[name].title for name in names], rows),
        {f"{target}.png": "Held-out images: reconstruction above, original below."},
        [f"The latent has {model.latent} numbers, the image {images[0].numel()}."],
    )


def appendix(study: Study) -> Result:
    """Study the convergence of features and weights, and what the clamp does."""
    steps = {"smoke": 20, "cpu": 2000, "paper": 20_000}[study.scale]
    found = appendix_a(study.directory, study.train.images(5000), study.seeds, steps)
    rows: dict[str, list[object]] = {f"{name}: {part['claim']}": [part["holds"]] for name, part in found.items()}
    return Result(
        "appendix-a",
        "convergence of the features and of the weights, and the clamp",
        "the features converge (equation 17), the weights become orthogonal, and weights beyond √2 are unstable.",
        Table(["measured"], rows),
        {f"appendix-a-{name}.png": name for name in found},
        numbers=found,
    )


def _with(method: tuple[str, str], name: str) -> tuple[str, str, str]:
    row, stage = method
    return row, name, stage


def _mean(found: object) -> float:
    assert isinstance(found, dict)
    return float(found["mean"])


def _bar(found: object) -> tuple[float, float | None]:
    assert isinstance(found, dict)
    return found["mean"], found["std"]


class Target(NamedTuple):
    """A table or figure: the function that makes it, the models it needs, and the paper's data set, if it has one."""

    make: Callable[[Study], Result]
    rows: Sequence[str]
    like: PaperSet | None


_CLASSES = "samples follow their class, and transitions in the latent space are continuous."
_ALL = ("ae", "vae", "gan", "vfa-gan")
_SHARP = "the features are noisy; the refiner sharpens them, so that they resemble the originals better."
_FACES = "features and refined images resemble the faces; without the perceptual loss the refiner fails to converge."
_ADVERSARIAL = "the features come near the originals; the refined images less so, as their loss is adversarial only."

TARGETS: dict[str, Target] = {
    "table1": Target(table_1, ("vae", "gan", "vfa-gan"), None),
    "fig5a": Target(figure_5a, ("vfa-2d",), "MNIST"),
    "fig5b": Target(figure_5b, ("vfa-gan",), "MNIST"),
    "fig6": Target(lambda study: reconstructions("fig6", study, _SHARP), _ALL, "MNIST"),
    "fig7": Target(
        lambda study: samples_and_interpolation(
            "fig7",
            study,
            "samples follow their class, and transitions in the latent space are continuous.",
            random=False,
        ),
        ("vfa-gan",),
        "MNIST",
    ),
    "fig8": Target(lambda study: reconstructions("fig8", study, _FACES), _ALL, "CelebA"),
    "fig9": Target(
        lambda study: samples_and_interpolation(
            "fig9", study, "transitions between random samples are continuous.", random=True
        ),
        ("vfa-gan",),
        "CelebA",
    ),
    "fig10": Target(lambda study: reconstructions("fig10", study, _ADVERSARIAL), _ALL, "CIFAR-10"),
    "fig11": Target(
        lambda study: samples_and_interpolation(
            "fig11", study, "samples are diverse, if less like the data than for the other data sets.", random=False
        ),
        ("vfa-gan",),
        "CIFAR-10",
    ),
    "fig12": Target(figure_12, _ALL, None),
    "fig13": Target(lambda study: local("fig13", study), ("local",), "MNIST"),
    "fig14": Target(lambda study: local("fig14", study), ("local",), "CIFAR-10"),
    "fig15": Target(lambda study: local("fig15", study), ("local",), "CelebA"),
    "appendix-a": Target(appendix, (), None),
}


def targets_of(study: Study) -> list[str]:
    """Return the targets that the paper has for the data set that the study's is compared with."""
    names = [name for name, target in TARGETS.items() if target.like in (None, study.like)]
    return names if study.train.classes else [name for name in names if name != "fig5b"]
