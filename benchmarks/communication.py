"""Bytes that a process sends in one update of a training by several, for every model.

Two CPU processes (gloo) train on random images. What the gradients of each optimiser amount to is counted where
DistributedDataParallel hands them over, in a communication hook; what goes over the loopback device is read from the
system, in a network namespace of its own if `unshare` allows one (else other traffic counts too).
Prints one JSON object.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed import GradBucket
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook

from feature_alignment.models import AE, FA, GAN, GON, VAE, VFA, VFAGAN, Local
from feature_alignment.training import TrainingOptions
from feature_alignment.training.fabric_updates import FabricUpdates
from feature_alignment.training.processes import launched

SIZES: dict[str, dict[str, Any]] = {
    "tiny": {"image_shape": (1, 8, 8), "channels": (4,), "width": 8, "latent": 3},
    "table 2": {"image_shape": (1, 28, 28), "channels": (32, 64), "width": 4096, "latent": 128},
    "table 3": {"image_shape": (3, 32, 32), "channels": (32, 64, 128), "width": 2048, "latent": 128},
    "table 4": {"image_shape": (3, 64, 64), "channels": (32, 64, 128, 256), "width": 4096, "latent": 128},
}
#: Conditional where a model can be; without batch normalisation, which CPU processes cannot synchronise.
MODELS: dict[str, tuple[Any, dict[str, Any]]] = {
    "fa": (FA, {}),
    "vfa": (VFA, {"classes": 10}),
    "vfa-gan": (VFAGAN, {"classes": 10, "refiner": "residual"}),
    "local": (Local, {}),
    "ae": (AE, {"classes": 10}),
    "vae": (VAE, {"classes": 10}),
    "gan": (GAN, {"normalize": False}),
    "gon": (GON, {"classes": 10}),
}
#: Updates before the one that is measured: in the first, DistributedDataParallel decides on its buckets.
WARM = 2


def built(name: str, size: str) -> Any:
    kind, options = MODELS[name]
    torch.manual_seed(0)
    return kind(**SIZES[size], **options)


def measured(fabric: Any, name: str, size: str, batch: int) -> dict[str, Any]:
    """Return the bytes of one update: of the gradients, by optimiser, and over the wire, of both processes."""
    updates = FabricUpdates(fabric, built(name, size), WARM + 1)
    gradients: Counter[str] = Counter()
    for optimizer, wrapped in updates.wrapped.items():
        wrapped._forward_module.register_comm_hook(None, _counting(gradients, optimizer))
    images = torch.rand(batch, *SIZES[size]["image_shape"])
    labels = torch.randint(10, (batch,)) if MODELS[name][1].get("classes") else None
    for _ in range(WARM):
        updates.step(images, labels)
    gradients.clear()
    before = _sent(fabric)
    updates.step(images, labels)
    return {"gradients": dict(gradients), "update": gradients.total(), "wire": (_sent(fabric) - before) // 2}


def _counting(gradients: Counter[str], optimizer: str) -> Any:
    def hook(state: Any, bucket: GradBucket) -> torch.futures.Future[Tensor]:
        gradients[optimizer] += bucket.buffer().nbytes
        return allreduce_hook(None, bucket)  # type: ignore[arg-type]

    return hook


def _sent(fabric: Any) -> int:
    """Return the bytes that the loopback device has sent so far, when no process sends any."""
    fabric.barrier()
    lines = Path("/proc/net/dev").read_text().splitlines()
    counters = next(line.split() for line in lines if line.strip().startswith("lo:"))
    found = int(counters[9])
    fabric.barrier()
    return found


def work(sizes: list[str], names: list[str], batch: int, file: Path) -> None:
    fabric = launched(TrainingOptions(accelerator="cpu"))
    found = {size: {name: measured(fabric, name, size, batch) for name in names} for size in sizes}
    if fabric.is_global_zero:
        kind = {"device": "cpu", "torch": torch.__version__, "processes": fabric.world_size, "batch": batch}
        file.write_text(json.dumps({**kind, "isolated": os.environ.get("ISOLATED") == "1", "bytes": found}, indent=2))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, default=Path("results/benchmarks/communication.json"))
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=["table 2", "table 3", "table 4"])
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--batch", type=int, default=4, help="images of each process; changes no number")
    options = parser.parse_args()
    if "RANK" in os.environ:
        work(options.sizes, options.models, options.batch, options.json)
        return
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", __file__, *sys.argv[1:]]
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        up = ["unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$0" "$@"']
        subprocess.run([*up, "true"], check=True, stderr=subprocess.DEVNULL)
        torchrun, os.environ["ISOLATED"] = [*up, *torchrun], "1"
    subprocess.run(torchrun, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    print(options.json.read_text())


if __name__ == "__main__":
    main()
