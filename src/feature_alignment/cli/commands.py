"""The commands of ``falign``: a new one is a file beside this one, and an entry here."""

from __future__ import annotations

import argparse
import importlib
from typing import Any, NamedTuple

__all__ = ["COMMANDS", "Command"]


class Command(NamedTuple):
    """A command.

    Attributes:
        about: what it does, in the imperative.
        example: a command line.
        module: its module in this package, with ``parse(arguments)`` and ``run(options)``.
    """

    about: str
    example: str
    module: str

    def parser(self) -> argparse.ArgumentParser:
        """Return the parser of all its options."""
        found: argparse.ArgumentParser = self._imported().parser()
        return found

    def parse(self, arguments: list[str]) -> argparse.Namespace:
        """Parse the arguments.

        Raises:
            UsageError: an unknown option or an invalid value.
            SystemExit: after printing the help.
        """
        options: argparse.Namespace = self._imported().parse(arguments)
        return options

    def run(self, options: argparse.Namespace) -> None:
        """Execute the command."""
        self._imported().run(options)

    def _imported(self) -> Any:
        return importlib.import_module(f".{self.module}", __package__)


COMMANDS = {
    "quickstart": Command(
        "train on real digits for a few minutes and show everything", "falign quickstart", "quickstart"
    ),
    "train": Command(
        "train a model from a YAML file; any value can be overridden",
        "falign train --config quickstart --data.name my_images --model.latent 16 --out runs/mine",
        "train",
    ),
    "evaluate": Command("measure a trained model on held-out images", "falign evaluate runs/quickstart", "evaluate"),
    "reconstruct": Command(
        "reconstruct image files, or held-out images",
        "falign reconstruct runs/quickstart my_digit.png --out out.png",
        "reconstruct",
    ),
    "sample": Command(
        "draw new images, by class if the model has classes",
        "falign sample runs/quickstart --classes 3 7 --out sample.png",
        "sample",
    ),
    "interpolate": Command(
        "interpolate between four images",
        "falign interpolate runs/quickstart --random --out interpolation.png",
        "interpolate",
    ),
    "invert": Command(
        "show what a layer of any network keeps of a photograph",
        "falign invert torchvision:resnet18 --layer layer3 photo.jpg --out out.png",
        "invert",
    ),
    "score": Command(
        "score images by how badly a model reconstructs them, and where: anomalies have large errors",
        "falign score runs/quickstart photos/ --out scores.csv",
        "score",
    ),
    "diagnose": Command(
        "measure what each layer of a network keeps of images, and draw it",
        "falign diagnose torchvision:resnet18 --images photos --size 112 --out report",
        "diagnose",
    ),
    "export": Command(
        "write encoder, decoder and refiner as files for other programs, checked against the model",
        "falign export runs/quickstart --format onnx --out files",
        "export",
    ),
    "push": Command(
        "push a trained model to the Hugging Face Hub, with a model card",
        "falign push runs/quickstart owner/name --licence cc-by-4.0",
        "push",
    ),
    "explore": Command(
        "look into a run or a network on a page of this machine",
        "falign explore runs/quickstart --port 7860",
        "explore",
    ),
    "completion": Command(
        "print a script that completes falign's commands and options in a shell",
        'eval "$(falign completion bash)"',
        "completion",
    ),
    "reproduce": Command(
        "reproduce the paper's tables and figures", "falign reproduce table1 --data mnist --scale cpu", "reproduce"
    ),
}
