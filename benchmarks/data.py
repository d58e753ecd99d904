"""Images a second of decoding a folder on all cores, and of batches from the cache, beside two usual ways.

`ours` decodes once into the cache and indexes it; `torchvision` is `ImageFolder` with a `DataLoader` of as many workers
as cores, which decodes anew every epoch; `datasets` is the `imagefolder` of Hugging Face, mapped once by as many
processes as cores, then read by its `torch` format. All resize and crop the same photographs to the same size.
`decoding` is the first pass over the set; for torchvision any pass. `batching` is a shuffled pass after it. `share` is
the time of one batch of 128 as a part of one update. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from feature_alignment.data import Batches, Images, load
from feature_alignment.data.decoding import workers
from feature_alignment.models import FA, VFA, Model, Updates

SIDE = 64
BATCH = 128


def write_photographs(folder: Path, count: int, size: tuple[int, int]) -> None:
    """Write JPEG files of smooth noise, about as large as photographs of this size, in two classes."""
    generator = np.random.default_rng(0)
    for number in range(count):
        coarse = Image.fromarray(generator.integers(0, 256, (24, 32, 3), np.uint8))
        place = folder / "ab"[number % 2] / f"{number:05}.jpg"
        place.parent.mkdir(parents=True, exist_ok=True)
        coarse.resize(size, Image.Resampling.BICUBIC).save(place, quality=90)


def ours(folder: Path, epochs: int) -> dict[str, float]:
    begun = time.perf_counter()
    images = load(str(folder), "train", image_size=SIDE)
    decoding = (len(images) + len(load(str(folder), "test", image_size=SIDE))) / (time.perf_counter() - begun)
    batches = Batches(images, BATCH, seed=0)
    begun = time.perf_counter()
    for update in range(epochs * len(batches)):
        batches.batch(update)[0].float().div_(255)
    batching = epochs * len(batches) * BATCH / (time.perf_counter() - begun)
    return {"decoding": decoding, "batching": batching}


def torchvisions(folder: Path) -> dict[str, float]:
    from torchvision import datasets, transforms

    steps = transforms.Compose([transforms.Resize(SIDE), transforms.CenterCrop(SIDE), transforms.ToTensor()])
    loader = torch.utils.data.DataLoader(
        datasets.ImageFolder(str(folder), steps), BATCH, shuffle=True, num_workers=workers()
    )
    begun, count = time.perf_counter(), 0
    for pixels, _ in loader:
        count += len(pixels)
    rate = count / (time.perf_counter() - begun)
    return {"decoding": rate, "batching": rate}


def hugging_faces(folder: Path, scratch: Path) -> dict[str, float]:
    import datasets
    from PIL import ImageOps

    def fitted(row: dict[str, Any]) -> dict[str, Any]:
        picture = ImageOps.fit(row["image"].convert("RGB"), (SIDE, SIDE), Image.Resampling.BICUBIC)
        return {"pixels": np.asarray(picture).transpose(2, 0, 1)}

    features = datasets.Features(
        pixels=datasets.Array3D((3, SIDE, SIDE), "uint8"), label=datasets.ClassLabel(names=["a", "b"])
    )
    begun = time.perf_counter()
    rows = datasets.load_dataset("imagefolder", data_dir=str(folder), split="train", cache_dir=str(scratch))
    mapped = rows.map(fitted, remove_columns=["image"], features=features, num_proc=workers())
    decoding = len(mapped) / (time.perf_counter() - begun)
    read = mapped.with_format("torch")
    begun, count = time.perf_counter(), 0
    order = torch.randperm(len(read)).tolist()
    for first in range(0, len(order) - BATCH + 1, BATCH):
        read[order[first : first + BATCH]]["pixels"].float().div_(255)
        count += BATCH
    return {"decoding": decoding, "batching": count / (time.perf_counter() - begun)}


def share(model: Model, images: Images, count: int) -> dict[str, float]:
    """Return the milliseconds of an update and of a batch, the fastest of some, and the batch's part of the update."""
    batches, updates = Batches(images, BATCH, seed=0), Updates(model, total=1000)
    times: dict[str, list[float]] = {"update_ms": [], "batch_ms": []}
    for number in range(count):
        begun = time.perf_counter()
        pixels, _ = batches.batch(number)
        between = time.perf_counter()
        updates.step(pixels)
        times["batch_ms"].append(1e3 * (between - begun))
        times["update_ms"].append(1e3 * (time.perf_counter() - between))
    found = {name: statistics.median(each) for name, each in times.items()}
    return {**found, "share": found["batch_ms"] / found["update_ms"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="file to write")
    parser.add_argument("--images", type=int, default=3000)
    parser.add_argument("--size", type=int, nargs=2, default=(500, 375), help="width and height of the photographs")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        scratch = Path(place)
        os.environ["FALIGN_CACHE"] = str(scratch / "cache")
        write_photographs(scratch / "set", options.images, tuple(options.size))
        found: dict[str, Any] = {"images": options.images, "size": list(options.size), "cores": workers()}
        found["ours"] = ours(scratch / "set", epochs=5)
        found["torchvision"] = torchvisions(scratch / "set")
        found["datasets"] = hugging_faces(scratch / "set", scratch / "hf")
        images = load(str(scratch / "set"), "train", image_size=SIDE)
        found["share of an update of FA, 3 x 64 x 64"] = share(FA((3, SIDE, SIDE)), images, 4)
    small = VFA((1, 28, 28), latent=32, channels=(8, 16), width=256, steps=2)
    digits = load("mnist-mini", "train")
    found["share of an update of a small VFA, 1 x 28 x 28"] = share(small, digits, 30)
    text = json.dumps(found, indent=2)
    print(text)
    if options.json:
        options.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
