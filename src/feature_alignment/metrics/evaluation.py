"""Measures of reconstructions and samples, and the networks that some of them look through."""

from __future__ import annotations

import hashlib
import os
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure
from torchmetrics.image.fid import FrechetInceptionDistance, NoTrainInceptionV3
from torchmetrics.image.kid import KernelInceptionDistance
from tqdm import tqdm

from ..data import Images, cache_directory
from ..models.losses import squared_error
from ..models.model import Model

__all__ = [
    "INCEPTION_URL",
    "MEASURES",
    "Classifier",
    "Inception",
    "Measure",
    "class_agreement",
    "classifier_fid",
    "classifier_for",
    "evaluate",
    "frechet_distance",
    "inception_features",
    "inception_weights",
    "kernel_distance",
    "psnr",
    "reconstruction_error",
    "ssim",
    "stages_of",
]

#: Images per call of a network or measure during evaluation: bounds the memory, changes no result.
CHUNK = 250
#: The same for Inception, whose activations are large.
INCEPTION_CHUNK = 50

#: The weights of the Inception-v3 with which FID is defined, as torch-fidelity converted and serves them.
INCEPTION_URL = (
    "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth"
)


class Measure(NamedTuple):
    """How a measure is shown.

    Attributes:
        title: a few words, with the unit.
        better: ``lower`` or ``higher``.
        meaning: a sentence.
        reference: what was measured under the stage ``reference``.
    """

    title: str
    better: str
    meaning: str
    reference: str


_MEAN_IMAGE = "the mean training image for every image"
_REAL_IMAGES = "real training images as samples"

#: Every measure that ``metrics.json`` may hold, in the order shown.
MEASURES = {
    "reconstruction_error": Measure(
        "reconstruction error", "lower", "mean over images of the squared distance to the reconstruction", _MEAN_IMAGE
    ),
    "psnr": Measure("PSNR (dB)", "higher", "mean over images of a reconstruction's signal-to-noise ratio", _MEAN_IMAGE),
    "ssim": Measure("SSIM", "higher", "structural similarity of image and reconstruction, at most 1", _MEAN_IMAGE),
    "fid": Measure("FID of samples", "lower", "Fréchet distance in Inception-v3's features", _REAL_IMAGES),
    "kid": Measure("KID of samples", "lower", "squared kernel distance in Inception-v3's features", _REAL_IMAGES),
    "classifier_fid": Measure(
        "classifier FID of samples", "lower", "Fréchet distance in a small classifier's features", _REAL_IMAGES
    ),
    "class_agreement": Measure(
        "samples named as the class asked for",
        "higher",
        "share of samples that a small classifier names as the class asked for",
        "the classifier on the held-out images",
    ),
}


def stages_of(metrics: dict[str, Any]) -> list[str]:
    """Return the stages that ``metrics.json`` has measures of, ``reference`` last."""
    found = dict.fromkeys(stage for name in MEASURES for stage in metrics.get(name, ()))
    return sorted(found, key=lambda stage: stage == "reference")


# --- reconstructions ---------------------------------------------------------------------------------


def _mean_over_images(measure: Callable[[Tensor, Tensor], Tensor], images: Tensor, reconstructions: Tensor) -> float:
    """Return the mean of what ``measure`` says of each pair, in float64."""
    if images.shape != reconstructions.shape:
        raise ValueError(f"reconstructions: expected shape {tuple(images.shape)}, got {tuple(reconstructions.shape)}")
    pairs = zip(images.split(CHUNK), reconstructions.split(CHUNK), strict=True)
    return float(torch.cat([measure(one.double(), two.double()) for one, two in pairs]).mean())


def reconstruction_error(images: Tensor, reconstructions: Tensor) -> float:
    r"""Mean over images of :math:`\lVert x - \hat x \rVert_2^2`, summed over channels and pixels.

    Args:
        images, reconstructions: in [0, 1], shape ``(N, C, H, W)``.
    """
    return _mean_over_images(squared_error, images, reconstructions)


def psnr(images: Tensor, reconstructions: Tensor) -> float:
    r"""Mean over images of the peak signal-to-noise ratio, in dB.

    .. math::
        -10 \log_{10} \bigl(\lVert x - \hat x \rVert_2^2 / CHW\bigr)

    An image counts for at most 100 dB, so that one exact reconstruction does not make the mean infinite.

    Args:
        images, reconstructions: in [0, 1], shape ``(N, C, H, W)``.
    """

    def of_each(one: Tensor, two: Tensor) -> Tensor:
        ratios: Tensor = peak_signal_noise_ratio(two, one, data_range=1.0, dim=(1, 2, 3), reduction="none")
        return ratios.clamp(max=100)

    return _mean_over_images(of_each, images, reconstructions)


#: SSIM's window of 11 pixels is mirrored by as many at the border; an image has to be larger than that.
SSIM_PADDING = 5


def ssim(images: Tensor, reconstructions: Tensor) -> float:
    r"""Mean over images, channels and pixels of the structural similarity, at most 1.

    .. math::
        \frac{(2 \mu \hat\mu + c_1) (2 \sigma_{x \hat x} + c_2)}
             {(\mu^2 + \hat\mu^2 + c_1) (\sigma^2 + \hat\sigma^2 + c_2)}

    Means and covariances are those under a Gaussian window of 11 pixels with a standard deviation of 1.5,
    mirrored at the border; :math:`c_1 = 0.01^2`, :math:`c_2 = 0.03^2`.

    Args:
        images, reconstructions: in [0, 1], shape ``(N, C, H, W)``, six pixels or more along each side.
    """

    def of_each(one: Tensor, two: Tensor) -> Tensor:
        found = structural_similarity_index_measure(two, one, data_range=1.0, reduction="none")
        assert isinstance(found, Tensor)  # as it is unless the map of similarities is asked for, too
        return found

    return _mean_over_images(of_each, images, reconstructions)


# --- the networks that judge -------------------------------------------------------------------------


def _stored(place: Path, build: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    """Return the tensors in the file ``place``, which is built and written if it is not there."""
    if place.is_file():
        return load_file(place)
    tensors = build()
    place.parent.mkdir(parents=True, exist_ok=True)
    descriptor, scratch = tempfile.mkstemp(dir=place.parent, suffix=".part")
    os.close(descriptor)
    try:
        save_file(tensors, scratch)
        Path(scratch).replace(place)  # whole or not at all
    finally:
        Path(scratch).unlink(missing_ok=True)
    return tensors


class Classifier(nn.Module):
    """A small convolutional classifier whose penultimate features stand in for Inception's.

    Shape:
        images ``(N, C, H, W)`` in [0, 1] to class scores ``(N, classes)``; :meth:`features` ``(N, 64)``.
    """

    num_features = 64

    def __init__(self, channels: int, image_size: int, classes: int) -> None:
        super().__init__()
        side = -(-image_size // 4)
        self.body = nn.Sequential(
            nn.Conv2d(channels, 16, 3, 2, 1),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, 2, 1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Dropout(0.3),
            nn.Linear(32 * side * side, self.num_features),
            nn.ReLU(),
        )
        self.head = nn.Linear(self.num_features, classes)

    def features(self, images: Tensor) -> Tensor:
        """Return the penultimate features, shape ``(N, 64)``."""
        found: Tensor = self.body(images)
        return found

    def forward(self, images: Tensor) -> Tensor:
        """Return the class scores."""
        scores: Tensor = self.head(self.body(images))
        return scores

    @torch.no_grad()
    def classify(self, images: Tensor) -> Tensor:
        """Return the class of each image, int64, shape ``(N,)``."""
        return torch.cat([self(chunk).argmax(1) for chunk in images.split(CHUNK)])


def classifier_for(train: Images, *, steps: int = 1500, seed: int = 0) -> Classifier:
    """Return the classifier of a data set, trained on its training split the first time and cached.

    Without labels it learns to tell by how many quarter turns an image is rotated, which needs none.

    Args:
        train: the training split.
        steps: Adam steps at 1e-3 of 64 images, each batch shifted at random by up to two pixels.
        seed: of everything random about it.
    """
    classes = len(train.classes) if train.labels is not None else 4
    key = hashlib.sha256(f"{train.shape} {classes} {len(train)} {steps} {seed}".encode())
    key.update(train.pixels[:: max(1, len(train) // 512)].numpy().tobytes())
    place = cache_directory() / f"classifier-{Path(train.name).name}-{key.hexdigest()[:16]}.safetensors"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        classifier = Classifier(train.shape[0], train.shape[1], classes)
        classifier.load_state_dict(_stored(place, lambda: _trained(classifier, train, steps)))
    return classifier.eval()


def _trained(classifier: Classifier, train: Images, steps: int) -> dict[str, Tensor]:
    optimizer = torch.optim.Adam(classifier.parameters(), lr=1e-3)
    for _ in tqdm(range(steps), desc="training the classifier that judges", delay=1):
        images, labels = train.__getitems__(torch.randint(len(train), (64,)).tolist())
        if labels is None:
            labels = torch.randint(4, (64,))
            turned = [each.rot90(int(turns), (1, 2)) for each, turns in zip(images, labels, strict=True)]
            images = torch.stack(turned)
        shift = torch.randint(-2, 3, (2,)).tolist()
        scores = classifier((images.float() / 255).roll(shift, (2, 3)))
        loss = nn.functional.cross_entropy(scores, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return classifier.state_dict()


def inception_weights() -> Path:
    """Return where torch hub, and with it torch-fidelity, keeps the weights of Inception-v3 once downloaded."""
    return Path(torch.hub.get_dir()) / "checkpoints" / INCEPTION_URL.rpartition("/")[2]


class Inception(nn.Module):
    """The Inception-v3 with which FID and KID are defined, up to its 2048 pooled features.

    Images are rounded to 8 bits, as they would be in files, and brought to 299 x 299 pixels as in the original
    implementation; grey ones are repeated in three channels. Nothing is ever downloaded.

    Args:
        weights: the file at :data:`INCEPTION_URL`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file holds something else.

    Shape:
        images ``(N, C, H, W)`` in [0, 1], on any device, with one or three channels, to features ``(N, 2048)``.
    """

    num_features = 2048

    def __init__(self, weights: str | Path) -> None:
        super().__init__()
        path = Path(weights)
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such file; expected the weights of Inception-v3 from {INCEPTION_URL}")
        with path.open("rb") as file:
            #: Tells these weights from others: the SHA-256 of the file.
            self.identity = hashlib.file_digest(file, "sha256").hexdigest()
        try:
            # Refuses a pickle that runs code; torch-fidelity, which reads the file next, does not.
            torch.load(path, map_location="cpu", weights_only=True)
            self.network = NoTrainInceptionV3(
                "inception-v3-compat", [str(self.num_features)], str(path), antialias=False
            )
        except Exception:  # whatever unpickling and loading may raise, in many lines
            raise ValueError(f"{path}: not the weights of Inception-v3; expected the file at {INCEPTION_URL}") from None

    @property
    def official(self) -> bool:
        """Whether the weights are those of :data:`INCEPTION_URL`, whose name ends in the start of their SHA-256."""
        return self.identity.startswith(Path(INCEPTION_URL).stem.rpartition("-")[2])

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Return the features."""
        pixels = (images * 255).round().clamp(0, 255).to(next(self.network.parameters()).device, torch.uint8)
        found: Tensor = self.network(pixels.expand(-1, 3, -1, -1))
        return found

    def features(self, images: Tensor) -> Tensor:
        """Return the features of any number of images, on the CPU."""
        chunks = tqdm(images.split(INCEPTION_CHUNK), desc="looking through Inception", delay=1)
        return torch.cat([self(chunk).cpu() for chunk in chunks])


def inception_features(inception: Inception, images: Images) -> Tensor:
    """Return the features of real images, shape ``(N, 2048)``, computed the first time and cached."""
    key = hashlib.sha256(f"{inception.identity} {images.shape}".encode())
    key.update(images.pixels.numpy().tobytes())
    name = f"inception-{Path(images.name).name}-{images.split}-{len(images)}-{key.hexdigest()[:16]}.safetensors"
    return _stored(cache_directory() / name, lambda: {"features": inception.features(images.images())})["features"]


# --- samples -----------------------------------------------------------------------------------------


class _Passed(nn.Module):
    """The feature extractor that torchmetrics expects, given what has been extracted already."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, features: Tensor) -> Tensor:
        return features


def frechet_distance(real: Tensor, generated: Tensor) -> float:
    r"""Fréchet distance (equation 8) between the Gaussians fitted to two sets of features.

    .. math::
        \lVert \mu_1 - \mu_2 \rVert^2 + \operatorname{tr}\bigl(\Sigma_1 + \Sigma_2 - 2 (\Sigma_1 \Sigma_2)^{1/2}\bigr)

    Args:
        real, generated: shape ``(N, features)``, two or more each. With no more of them than features the
            covariances are singular and the distance comes out too large.
    """
    if len(real) < 2 or len(generated) < 2:
        raise ValueError(f"frechet_distance: expected two images or more, got {len(real)} and {len(generated)}")
    distance = FrechetInceptionDistance(_Passed(real.shape[1]), sync_on_compute=False)
    distance.update(real.double(), real=True)
    distance.update(generated.double(), real=False)
    return float(distance.compute())


def kernel_distance(real: Tensor, generated: Tensor) -> float:
    r"""Kernel inception distance: the squared maximum mean discrepancy of two sets of features.

    The kernel is :math:`(x^\top y / d + 1)^3` for ``d`` features. The mean over 100 random subsets of 1000;
    sets of no more than 1000 are compared once, whole. The estimate is unbiased, so it may come out below 0.

    Args:
        real, generated: shape ``(N, features)``, two or more each.
    """
    size = min(1000, len(real), len(generated))
    if size < 2:
        raise ValueError(f"kernel_distance: expected two images or more, got {len(real)} and {len(generated)}")
    subsets = 1 if len(real) == len(generated) == size else 100
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.filterwarnings("ignore", ".*will save all extracted features.*")
        torch.manual_seed(0)  # of the subsets
        distance = KernelInceptionDistance(
            _Passed(real.shape[1]), subsets=subsets, subset_size=size, sync_on_compute=False
        )
        distance.update(real.double(), real=True)
        distance.update(generated.double(), real=False)
        return float(distance.compute()[0])


@torch.no_grad()
def classifier_fid(classifier: Classifier, real: Tensor, generated: Tensor) -> float:
    """Fréchet distance (equation 8) between two sets of images in the features of ``classifier``.

    Not comparable with the FID of Inception's features, and never called that.

    Args:
        classifier: in eval mode.
        real, generated: in [0, 1], shape ``(N, C, H, W)``, two images or more each.
    """
    of_real, of_generated = (
        torch.cat([classifier.features(chunk) for chunk in images.split(CHUNK)]) for images in (real, generated)
    )
    return frechet_distance(of_real, of_generated)


def class_agreement(classifier: Classifier, images: Tensor, labels: Tensor) -> float:
    """Return the share of ``images`` that ``classifier`` names as ``labels``, in [0, 1]."""
    return float((classifier.classify(images) == labels).double().mean())


# --- everything --------------------------------------------------------------------------------------


def evaluate(
    model: Model,
    train: Images,
    test: Images,
    *,
    seed: int = 0,
    limit: int | None = None,
    inception: Inception | None = None,
) -> dict[str, Any]:
    """Measure a model on held-out images.

    Reconstructions are decoded from the latent :meth:`~Model.encode` gives (a posterior's mean), a
    conditional model being told the label. As many samples are drawn from the prior as there are held-out
    images, with their labels. What the model decodes and, where it has a refiner, refined images are
    measured apart; ``reference`` holds what each measure says of real images, for comparison: the mean of
    the training images as a constant reconstruction, and real training images as samples.

    Args:
        model: any model.
        train: trains the classifier, and is the reference.
        test: held-out images.
        seed: of the samples.
        limit: use only so many held-out images, evenly spread.
        inception: gives ``fid`` and ``kid``, which are left out without it.

    Returns:
        What ``metrics.json`` holds: the measures in :data:`MEASURES`, each with a key a stage, which are
        :attr:`Model.stage`, ``refined`` and ``reference``; ``notes`` says of a measure why it is left out or
        what to beware of.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"limit: expected at least 1, got {limit}")
    held_out = _spread(test, len(test) if limit is None else limit)
    reference = _spread(train, len(held_out))  # the same share of every class as in the held-out images
    images, labels = held_out.images(), held_out.labels if model.classes else None

    reconstructions, samples = _reconstruct_and_sample(model, images, labels, seed)
    reconstructions["reference"] = _mean_image(train).expand_as(images)
    samples["reference"] = reference.images()

    found: dict[str, Any] = {
        "data": test.name,
        "split": test.split,
        "images": len(held_out),
        "samples": len(held_out),
        "seed": seed,
    }
    notes: dict[str, str] = {}

    def measured(measure: Callable[[Tensor, Tensor], float], made: dict[str, Tensor]) -> dict[str, float]:
        return {stage: measure(images, each) for stage, each in made.items()}

    found["reconstruction_error"] = measured(reconstruction_error, reconstructions)
    found["psnr"] = measured(psnr, reconstructions)
    if min(images.shape[2:]) > SSIM_PADDING:
        found["ssim"] = measured(ssim, reconstructions)
    else:
        notes["ssim"] = f"left out: images of {images.shape[2]} x {images.shape[3]} pixels are too small for its window"

    classifier = classifier_for(train)
    if min(len(held_out), len(reference)) < 2:
        notes["classifier_fid"] = "left out: a distribution needs two images or more"
    else:
        found["classifier_fid"] = measured(lambda real, made: classifier_fid(classifier, real, made), samples)
    if inception is not None and "classifier_fid" in found:
        found |= _inception_distances(inception, held_out, reference, samples)
        if len(held_out) <= inception.num_features:
            notes["fid"] = (
                f"biased: {len(held_out)} images give {inception.num_features} features a singular covariance; "
                "compare it only with values from as many images"
            )
        if not inception.official:
            notes["inception"] = "other weights than the published ones: not the FID and KID of the literature"
    if labels is not None:
        judged = samples | {"reference": images}
        found["class_agreement"] = {stage: class_agreement(classifier, each, labels) for stage, each in judged.items()}
    return found | ({"notes": notes} if notes else {})


def _spread(images: Images, count: int) -> Images:
    """Return ``count`` images, or all, evenly spread over the split, which may be ordered by class."""
    chosen = torch.linspace(0, len(images) - 1, min(count, len(images))).round().long()
    pixels, labels = images.__getitems__(chosen.tolist())
    return replace(images, pixels=pixels, labels=labels)


def _mean_image(images: Images) -> Tensor:
    # In chunks: a data set may be larger than the memory.
    total = torch.stack([chunk.float().sum(0) for chunk in images.pixels.split(CHUNK)]).sum(0)
    return total / (255 * len(images))


def _reconstruct_and_sample(
    model: Model, images: Tensor, labels: Tensor | None, seed: int
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the reconstructions and as many samples, by stage, on the CPU."""
    generator = torch.Generator().manual_seed(seed)
    stages = [model.stage] if model.refiner is None else [model.stage, "refined"]
    reconstructions: dict[str, list[Tensor]] = {stage: [] for stage in stages}
    samples: dict[str, list[Tensor]] = {stage: [] for stage in stages}
    for start in tqdm(range(0, len(images), CHUNK), desc="reconstructing and sampling", delay=1):
        chunk = images[start : start + CHUNK].to(model.device)
        asked = None if labels is None else labels[start : start + CHUNK]
        # A reconstruction may be a long search: it is made once, and every measure looks at that.
        for kept, made in (
            (reconstructions, model.reconstruct(chunk, asked)),
            (samples, model.sample(len(chunk), asked, generator=generator)),
        ):
            kept[model.stage].append(made.cpu())
            if "refined" in stages:
                kept["refined"].append(model.refine(made, asked).cpu())
    return (
        {stage: torch.cat(chunks) for stage, chunks in reconstructions.items()},
        {stage: torch.cat(chunks) for stage, chunks in samples.items()},
    )


def _inception_distances(
    inception: Inception, held_out: Images, reference: Images, samples: dict[str, Tensor]
) -> dict[str, dict[str, float]]:
    """Return ``fid`` and ``kid`` by stage, from one pass of every set of images through Inception."""
    real = inception_features(inception, held_out)
    fid, kid = {}, {}
    for stage, images in samples.items():
        # The reference is of real images, which are cached.
        features = inception_features(inception, reference) if stage == "reference" else inception.features(images)
        fid[stage], kid[stage] = frechet_distance(real, features), kernel_distance(real, features)
    return {"fid": fid, "kid": kid}
