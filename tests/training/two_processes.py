"""Trainings on 64 random images of 8 x 8 pixels, in float64: by one process, or by one of two that were started alike.

``python two_processes.py OUT NAME ...`` trains the models named, each into a folder of that name in ``OUT``. Started
twice with torchrun's environment variables, both processes train on each batch together. With the variable ``SIGNAL``
the last process sends itself SIGTERM in the fourth update, and the two agree after every update.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import warnings
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn

from feature_alignment.data import Batches, DataOptions, Images
from feature_alignment.models import AE, FA, GAN, GON, VAE, VFA, VFAGAN, Local
from feature_alignment.training import Run, Stopped, TrainingOptions, fit, loop, processes


class Unused(nn.Sequential):
    """An encoder with a weight that no output depends on."""

    def __init__(self):
        super().__init__(nn.Flatten(), nn.Linear(64, 8), nn.SiLU())
        self.idle = nn.Parameter(torch.ones(2))

    def forward(self, x):
        return super().forward(x)


#: Images in the batch of all processes.
WHOLE = 12
MODERN = {"augment": ["translation", "cutout"], "average_weights": 0.9}
RESIDUAL = {"refiner": "residual", "refiner_filters": 4, "discriminator_width": 8, "classes": 3}
CASES = {
    "fa": (FA, {"start": "normal", "clip_gradient": 0.5}),
    "vfa": (VFA, {"kl_warmup": 3, "classes": 3, "cross_entropy_weight": 1.0, "schedule": "cosine"}),
    "vfa further": (VFA, {"steps": 2, "start": "layers", "squash": "every", "max_step": 20.0, "further_steps": 3,
                          "learn_step_size": True}),
    "vfa-gan": (VFAGAN, RESIDUAL),
    "vfa-gan relativistic": (VFAGAN, {**RESIDUAL, **MODERN, "adversarial": "relativistic", "projection": True}),
    "vfa-gan wasserstein": (VFAGAN, {**RESIDUAL, "adversarial": "wasserstein-gp"}),
    "local": (Local, {}),
    "local two steps": (Local, {"steps": 2, "step_size": 0.5}),
    "vae": (VAE, {"beta": "uniform"}),
    "ae": (AE, {"classes": 3, "clip_gradient": 0.5}),
    "gan": (GAN, {"normalize": False, "adversarial": "relativistic", "projection": True, "classes": 3, **MODERN}),
    "gon": (GON, {}),
    "an encoder of one's own": (VFA, {"encoder": Unused}),
}  # fmt: skip


class Data:
    """What :func:`fit` needs of the training data, without loading any."""

    def __init__(self, batch_size, classes):
        chosen = torch.Generator().manual_seed(0)
        pixels = torch.randint(256, (64, 1, 8, 8), dtype=torch.uint8, generator=chosen)
        labels = torch.randint(3, (64,), generator=chosen)
        names = ("one", "two", "three") if classes else ()
        self.train = Images("squares", "train", pixels, labels if classes else None, names)
        self.batch_size, self.classes, self.options = batch_size, classes, DataOptions("squares", batch_size)

    def batches(self, seed, device="cpu", rank=0, world_size=1):
        return Batches(self.train, self.batch_size, seed, device, rank, world_size)


def train(name, out, *, share=1, resume=False, **options):
    """Train a model of :data:`CASES` into a folder of ``out``, in one of ``share`` processes."""
    kind, given = CASES[name]
    torch.manual_seed(0)
    made = {key: value() if isinstance(value, type) else value for key, value in given.items()}
    model = kind((1, 8, 8), latent=3, channels=(4,), width=8, **made)
    run = Run(Path(out) / name)
    run.directory.mkdir(parents=True, exist_ok=True)
    chosen = {"steps": 5, "accelerator": "cpu", "log_every": 1, "precision": "64-true"} | options
    fit(model, Data(WHOLE // share, given.get("classes", 0)), run, TrainingOptions(**chosen), resume=resume)


def weights(out, name):
    """Return what a training has saved, but for the samplers, which are fitted to float32 latents."""
    saved = load_file(Path(out) / name / "model.safetensors")
    return {key: value for key, value in saved.items() if not key.startswith("samplers.")}


def start(out, *names, **environment):
    """Start two processes that train together, as torchrun does; return their outputs when they have ended."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    shared = {"MASTER_ADDR": "localhost", "MASTER_PORT": str(port), "WORLD_SIZE": "2",
              "LOCAL_WORLD_SIZE": "2", "TORCHELASTIC_RUN_ID": "test", "OMP_NUM_THREADS": "1"}  # fmt: skip
    started = [
        subprocess.Popen(
            [sys.executable, __file__, str(out), *names],
            env=os.environ | shared | environment | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for rank in range(2)
    ]  # fmt: skip
    outputs = [each.communicate(timeout=300)[0] for each in started]
    assert not any(each.returncode for each in started), "\n".join(outputs)
    return outputs


def main(out, *names):
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    for each in names:
        try:
            train(each, out, share=2, steps=int(os.environ.get("STEPS", "5")))
        except Stopped as stopped:
            print(stopped)


def signal_in_the_fourth_update():
    step = loop.FabricUpdates.step

    def interrupted(updates, *batch):
        if updates.done == 3:
            signal.raise_signal(signal.SIGTERM)
        return step(updates, *batch)

    loop.FabricUpdates.step = interrupted


if __name__ == "__main__":
    if "SIGNAL" in os.environ:
        processes.AGREED_EVERY = 0.0
        if os.environ["RANK"] == "1":
            signal_in_the_fourth_update()
    main(*sys.argv[1:])
