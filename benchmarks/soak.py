"""Trainings that are killed and resumed: they have to end bit for bit like the one that was never interrupted.

Every case trains a small model on a folder of images in a process of its own, kills it where it enters a given function
for the given time (nothing of this is in the package: the functions are replaced in the child), and resumes it with
``falign train --out RUN --resume`` (with the whole command where it was killed before it wrote its configuration).
Compared are the bytes of ``model.safetensors`` and ``log.csv``, and
``metrics.json`` without the wall time. Linux and macOS. Run it as

    python benchmarks/soak.py --kills 50 --out results/soak/cpu.json
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import pkgutil
import platform
import shutil
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image

SMALL = ["--model.latent=3", "--training.steps=12", "--training.log_every=2", "--training.checkpoint_every=3",
         "--training.accelerator=cpu", "--training.devices=1", "--data.batch_size=8", "--data.image_size=8",
         "--data.channels=1"]  # fmt: skip
NARROW = ["--model.channels=[4]", "--model.width=8"]
LAYERS = ["--model.start=layers", "--model.squash=every", "--model.step_size=4", "--model.learn_step_size=true",
          "--model.max_step=20"]  # fmt: skip
MODERN = ["--model.adversarial=relativistic", "--model.projection=true", "--model.average_weights=0.9"]
#: Every model, with its options; those with classes are conditional. What follows a comma in a name is no class's.
MODELS = {
    "FA": [*NARROW, "--data.labels=false", "--model.start=normal"],
    "VFA": [*NARROW, "--model.kl_warmup=5", "--model.schedule=cosine"],
    "VFAGAN": [*NARROW, "--model.refiner_filters=4", "--model.discriminator_width=8", "--model.schedule=cosine"],
    "Local": [*NARROW, "--data.labels=false"],
    "AE": [*NARROW, "--data.labels=false", "--model.clip_gradient=1"],
    "VAE": [*NARROW, "--data.labels=false"],
    "GAN": [*NARROW, "--data.labels=false", "--model.search_steps=2"],
    "GON": [*NARROW, "--data.labels=false"],
    "FA, layered start": [*NARROW, *LAYERS, "--data.labels=false", "--model.further_steps=3"],
    "VFAGAN, layered start": [
        *NARROW,
        *LAYERS,
        *MODERN,
        "--model.refiner=residual",
        "--model.refiner_filters=4",
        "--model.steps=2",
        "--model.discriminator_width=8",
        "--model.fakes=reconstruction",
        "--model.sampler=mixture",
    ],
    "GAN, relativistic": [
        *NARROW,
        *MODERN,
        "--model.search_steps=2",
        "--model.normalize=false",
        "--model.augment=[translation]",
    ],
}
#: Where a case is killed: phase, function and the largest number of times that surely enters it.
POINTS = {
    "cache": [("PIL.Image:open", 60), ("numpy:save", 2), ("feature_alignment.data.cache:memory_map", 2)],
    "start-up": [
        ("feature_alignment.cli.training:_built", 1),
        ("feature_alignment.training.loop:launched", 1),
        ("feature_alignment.training.log:Log.__init__", 1),
        ("feature_alignment.training.log:Log._write_all", 1),
    ],
    "update": [("torch.optim:Adam.step", 12), ("feature_alignment.training.log:Log.write", 6)],
    "checkpoint": [
        ("torch:save", 4),
        ("feature_alignment.training.checkpoint:_keep", 4),
        ("os:link", 3),
        ("os:fsync", 6),
        ("pathlib:Path.replace", 6),
    ],
    "report": [
        ("feature_alignment.report.run_report:evaluate", 1),
        ("feature_alignment.report.run_report:sample_picture", 1),
        ("feature_alignment.report.run_report:reconstruction_picture", 1),
        ("feature_alignment.report.run_report:render", 1),
        ("feature_alignment.models.saving:write_atomically", 2),
    ],
}
SIGNALS = [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT]


def cases(kills: int, seed: int) -> list[tuple[str, str, str, int, signal.Signals]]:
    """Return phase, model, function, number of the call and signal of each kill, in turn over the phases."""
    rng = np.random.default_rng(seed)
    found = []
    for number in range(kills):
        phase = list(POINTS)[number % len(POINTS)]
        turn = number // len(POINTS)
        function, most = POINTS[phase][turn % len(POINTS[phase])]
        model = list(MODELS)[(number + turn) % len(MODELS)]
        found.append((phase, model, function, int(rng.integers(1, most + 1)), SIGNALS[(number + turn) % 4]))
    return found


def kill_at(function: str, call: int, number: signal.Signals) -> None:
    """Replace a function by one that sends the signal to this process where it is entered for the ``call``-th time."""
    module, _, name = function.partition(":")
    owner: Any = importlib.import_module(module)
    *path, last = name.split(".")
    for part in path:
        owner = getattr(owner, part)
    original, calls = getattr(owner, last), Counter[str]()

    def entered(*arguments: Any, **options: Any) -> Any:
        calls[last] += 1
        if calls[last] == call:
            os.kill(os.getpid(), number)
        return original(*arguments, **options)

    setattr(owner, last, entered)


def child(arguments: list[str], cache: Path, said: Path, kill: tuple[str, int, signal.Signals] | None = None) -> int:
    """Run ``falign`` in a forked process; return its exit code, negative for the signal that ended it."""
    process = os.fork()
    if process == 0:
        code = 1
        try:
            output = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(output, 1)
            os.dup2(output, 2)
            os.environ["FALIGN_CACHE"] = str(cache)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            from feature_alignment.cli.main import main
            from feature_alignment.metrics import classifier

            full = classifier._trained
            classifier._trained = lambda network, train, steps: full(network, train, 10)  # type: ignore[assignment]
            Figure.savefig = _blank  # type: ignore[assignment]
            if kill:
                kill_at(*kill)
            code = main(arguments)
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def _blank(figure: Any, file: Any, **_: Any) -> None:
    """Write one pixel instead of a figure: drawing takes most of a case's time, and pictures are not compared."""
    Image.new("L", (1, 1)).save(file, "PNG")


def images(folder: Path) -> None:
    """Write a folder of small images in two classes."""
    rng = np.random.default_rng(0)
    for kind, level in (("dark", 60), ("light", 190)):
        (folder / kind).mkdir(parents=True)
        for number in range(40):
            pixels = np.clip(level + rng.integers(-50, 50, (8, 8)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / kind / f"{number:02}.png")


def result(run: Path) -> tuple[bytes, bytes, dict[str, Any]]:
    """Return what has to be equal: weights, log, and metrics without the wall time."""
    metrics = json.loads((run / "metrics.json").read_text())
    for name in ("seconds", "commit"):  # the wall time, and of the sources, which may be committed meanwhile
        metrics.pop(name)
    return (run / "model.safetensors").read_bytes(), (run / "log.csv").read_bytes(), metrics


def command(model: str, folder: Path, run: Path) -> list[str]:
    return [
        "train",
        "--model",
        model.partition(",")[0],
        *SMALL,
        *MODELS[model],
        f"--data.name={folder}",
        f"--out={run}",
    ]


def soak(kills: int, seed: int, folder: Path) -> list[dict[str, Any]]:
    """Run the cases and return one record each."""
    images(folder / "images")
    cache, records, whole = folder / "cache", [], {}
    for number, (phase, model, function, call, stop) in enumerate(cases(kills, seed)):
        if model not in whole:
            run = folder / f"whole-{model}"
            code = child(command(model, folder / "images", run), cache, folder / "said")
            assert code == 0, (folder / "said").read_text()[-2000:]
            whole[model] = result(run)
        run, said = folder / f"run-{number}", folder / f"said-{number}"
        own = folder / f"cache-{number}" if phase == "cache" else cache
        killed = child(command(model, folder / "images", run), own, said, (function, call, stop))
        given = ["train", f"--out={run}"] if (run / "config.yaml").is_file() else command(model, folder / "images", run)
        resumed = child([*given, "--resume"], own, said)
        same = resumed == 0 and [a == b for a, b in zip(result(run), whole[model], strict=True)]
        expected = -stop if stop == signal.SIGKILL else 128 + stop
        record = {
            "phase": phase, "model": model, "function": function, "call": call, "signal": stop.name,
            "exit": killed, "resumed": resumed, "equal": bool(same) and all(same),
            "whole": bool(same) and all(same) and killed == expected,
        }  # fmt: skip
        records.append(record)
        print(f"{number + 1} of {kills}: {record}", file=sys.stderr, flush=True)
        if not record["whole"]:
            print(said.read_text()[-1500:], file=sys.stderr)
        for path in (run, own if own != cache else run):
            shutil.rmtree(path, ignore_errors=True)
    return records


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="JSON file to write")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    import feature_alignment.cli as package

    for module in pkgutil.iter_modules(package.__path__):  # once, before the processes are forked
        importlib.import_module(f"{package.__name__}.{module.name}")
    for name in ("torch.utils.tensorboard", "torchmetrics.image", "matplotlib.backends.backend_agg"):
        importlib.import_module(name)
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        records = soak(options.kills, options.seed, Path(folder))
    lost = sum(not record["whole"] for record in records)
    print(f"{len(records)} kills, {lost} lost, {round(time.perf_counter() - begun)} s")
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(summary(records, options.seed), indent=1) + "\n")
    return bool(lost)


def summary(records: list[dict[str, Any]], seed: int) -> dict[str, Any]:
    counts = {f"by_{key}": dict(Counter(record[key] for record in records)) for key in ("phase", "signal", "model")}
    lost = sum(not record["whole"] for record in records)
    return {
        "command": f"python benchmarks/soak.py --kills {len(records)} --seed {seed}", "kills": len(records),
        "lost": lost, **counts, "torch": torch.__version__, "python": platform.python_version(), "cases": records,
    }  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
