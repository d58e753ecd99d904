"""The command ``falign``: train, look at and measure models without writing Python."""

from __future__ import annotations

import argparse
import json
import re
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from jsonargparse import ArgumentParser, Namespace

from . import __version__

__all__ = ["main"]

CONFIGS = Path(__file__).parent / "configs"


class UsageError(Exception):
    """Something the user asked for that cannot be; the message is one line."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``falign``; return the exit code: 0 on success, 2 if the request cannot be met, 130 if interrupted."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    # The heavy imports come after the parsing of a bare --help.
    if not arguments or arguments[0] in ("-h", "--help", "--version"):
        _parser({}).parse_args(arguments or ["--help"])
        return 0
    from .data import DataError
    from .training import TrainingError

    warnings.showwarning = _show_warning
    try:
        command = arguments[0]
        if command not in COMMANDS:
            raise UsageError(f"unknown command {command!r}; expected one of {', '.join(COMMANDS)}")
        parser = _parser({command: COMMANDS[command]})
        options = parser.parse_args([command, *(_config_by_name(arguments[1:]))])[command]
        COMMANDS[command].run(options)
    except (UsageError, DataError, TrainingError, argparse.ArgumentError) as error:
        print(f"falign: error: {_one_line(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("falign: interrupted", file=sys.stderr)
        return 130
    return 0


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    print(f"falign: warning: {_one_line(message)}", file=sys.stderr)


def _one_line(message: object) -> str:
    return re.sub(r"\s+", " ", str(message)).strip()


def _config_by_name(arguments: list[str]) -> list[str]:
    """Let ``--config NAME`` find a configuration that comes with the package."""
    found = list(arguments)
    for index, argument in enumerate(arguments):
        flag, _, value = argument.partition("=")
        if flag != "--config" or (not value and index + 1 == len(arguments)):
            continue
        name = value or arguments[index + 1]
        if Path(name).is_file():
            continue
        packaged = CONFIGS / f"{name.removesuffix('.yaml')}.yaml"
        if not packaged.is_file():
            known = ", ".join(sorted(path.stem for path in CONFIGS.glob("*.yaml")))
            raise UsageError(f"--config {name}: no such file, nor one of the configurations that come along: {known}")
        if value:
            found[index] = f"--config={packaged}"
        else:
            found[index + 1] = str(packaged)
    return found


# --- training ---------------------------------------------------------------------------------------


def _training_arguments(parser: ArgumentParser) -> None:
    from .data import DataModule
    from .models import Model
    from .training import TrainingOptions

    parser.add_argument("--config", action="config", help="YAML file, or the name of one that comes along")
    parser.add_argument("--out", type=str, default="runs/train", help="run directory to write")
    parser.add_argument("--resume", type=bool, default=False, help="go on from the newest checkpoint in --out")
    parser.add_class_arguments(TrainingOptions, "training")
    parser.add_class_arguments(DataModule, "data")
    parser.add_subclass_arguments(Model, "model", required=True, help="the model and its options, see --model.help")
    for name in ("image_shape", "classes"):
        parser.link_arguments(f"data.{name}", f"model.init_args.{name}", apply_on="instantiate")


def _train(options: Namespace) -> None:
    if not options.resume:
        _new_run(options.out)
        return _run_training(options)
    # What was asked for then, with what the command line says now on top.
    run = _existing_run(options.out)
    run.settings()
    parser = _command_parser("train")
    given = _config_by_name(sys.argv[2:])
    return _run_training(parser.parse_args(["--config", str(run.config), *given]))


def _quickstart_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--out", type=str, default="", help="run directory (default: runs/quickstart, or the next free)"
    )
    parser.add_argument("--resume", type=bool, default=False, help="go on from the newest checkpoint in --out")
    parser.add_argument("--seed", type=int, default=0, help="of initialisation, order and noise")
    parser.add_argument("--steps", type=int, default=None, help="train on fewer or more batches than the recipe")


def _quickstart(options: Namespace) -> None:
    out = options.out or "runs/quickstart"
    if not options.resume:
        if options.out:
            _new_run(out)
        number = 2
        while Path(out).exists() and any(Path(out).iterdir()):
            out, number = f"runs/quickstart-{number}", number + 1
    arguments = ["--config", str(CONFIGS / "quickstart.yaml"), f"--out={out}", f"--training.seed={options.seed}"]
    arguments += [f"--resume={str(options.resume).lower()}"]
    arguments += [] if options.steps is None else [f"--training.steps={options.steps}"]
    _run_training(_command_parser("train").parse_args(arguments))


def _run_training(options: Namespace) -> None:
    import pytorch_lightning as pl

    from .report import write_report
    from .training import Run, fit

    run = Run(Path(options.out))
    run.directory.mkdir(parents=True, exist_ok=True)
    pl.seed_everything(options.training.seed, verbose=False)
    parser = _command_parser("train")
    try:
        ready = parser.instantiate_classes(options)
    except ValueError as error:
        raise UsageError(error) from None
    if not options.resume:
        kept = options.clone()
        for name in ("config", "resume", "out"):
            kept.pop(name, None)
        run.config.write_text(parser.dump(kept, skip_validation=True))
    data, model, training = ready.data, ready.model, ready.training
    print(
        f"Training {type(model).__name__} ({sum(each.numel() for each in model.parameters()):,} parameters) on "
        f"{len(data.train):,} images of {data.data_name}, {training.steps:,} steps of {data.batch_size} images each, "
        f"into {run.directory}",
        flush=True,
    )
    done = fit(model, data, run, training, resume=options.resume)
    test = data.test()
    print(f"Measuring on {len(test):,} held-out images and drawing", flush=True)
    write_report(run, model, data.train, test, done, training.seed)
    _print_summary(run)


def _print_summary(run: Any) -> None:
    metrics = json.loads(run.metrics.read_text())
    minutes, seconds = divmod(round(metrics["training"]["seconds"]), 60)
    print(f"\nTrained {metrics['training']['steps']:,} steps in {minutes} min {seconds} s.\n")
    _print_metrics(metrics)
    directory = run.directory
    found = [
        ("report.html", "everything below on one page: open it in a browser"),
        ("reconstructions.png", "held-out images, their features and what the refiner makes of them"),
        ("samples.png", "samples from the prior, a column for each class asked for"),
        ("interpolation.png", "between four held-out images"),
        ("metrics.json", "the numbers above and what they were measured on"),
        ("log.csv", f"the losses; also as curves with: tensorboard --logdir {directory}"),
        ("config.yaml", "what was asked for"),
        ("model.safetensors", "the weights, with config.json; checkpoints/last.ckpt has the optimisers too"),
    ]
    print(f"\nIn {directory}:")
    for name, words in found:
        print(f"  {name:20} {words}")
    print("\nTry next:")
    if "class_agreement" in metrics:
        print(f"  falign sample {directory} --classes 3 7 --stress 2 --out sample.png")
    print(f"  falign interpolate {directory} --random true --out interpolation.png")
    print(f"  falign reconstruct {directory} my_image.png --out out.png    (--invert true for ink on white paper)")
    print("  falign train --config quickstart --model.latent 16 --out runs/latent-16")


def _print_metrics(metrics: dict[str, Any]) -> None:
    stages = list(metrics["reconstruction_error"])
    count = f"{metrics['images']} {metrics['split']} images of {metrics['data']}"
    print(f"{count:42}" + "".join(f"{stage:>12}" for stage in stages))
    for name, words in (
        ("reconstruction_error", "reconstruction error"),
        ("classifier_fid", "classifier FID of samples"),
        ("class_agreement", "samples named as the class asked for"),
    ):
        if name in metrics:
            print(f"{words:42}" + "".join(f"{metrics[name][stage]:12.3g}" for stage in stages))
    print("(reference: the mean image; real training images; the classifier on held-out images)")


# --- using a trained model --------------------------------------------------------------------------


def _run_argument(parser: ArgumentParser) -> None:
    parser.add_argument("run", type=str, help="run directory of a finished training")


def _evaluate_arguments(parser: ArgumentParser) -> None:
    _run_argument(parser)
    parser.add_argument("--data", type=str, default="", help="another data set or folder than the run's own")
    parser.add_argument("--limit", type=int, default=None, help="measure on the first so many held-out images only")
    parser.add_argument("--seed", type=int, default=0, help="of the samples")
    parser.add_argument("--out", type=str, default="", help="JSON file to write (default: RUN/evaluation.json)")


def _evaluate(options: Namespace) -> None:
    from .metrics import evaluate

    run = _existing_run(options.run)
    model = run.model()
    if options.limit is not None and options.limit < 2:
        raise UsageError(f"--limit: expected at least 2, got {options.limit}")
    out = _writable(options.out or run.directory / "evaluation.json")
    train, test = (_data_of(run, split, options.data) for split in ("train", "test"))
    if train.shape != model.image_shape:
        raise UsageError(f"--data {train.name}: images of shape {train.shape}, the model has {model.image_shape}")
    if model.classes and (test.labels is None or len(test.classes) != model.classes):
        raise UsageError(f"--data {train.name}: {len(test.classes)} classes, the model was built for {model.classes}")
    metrics = evaluate(model, train, test, seed=options.seed, limit=options.limit)
    _print_metrics(metrics)
    out.write_text(json.dumps(metrics, indent=2) + "\n")
    print(f"Wrote {out}")


def _reconstruct_arguments(parser: ArgumentParser) -> None:
    _run_argument(parser)
    parser.add_argument("images", nargs="*", type=str, help="image files (default: held-out images of the data set)")
    parser.add_argument(
        "--out",
        type=str,
        default="",
        help="picture to write, or a folder for one file an image (default: RUN/reconstruct.png)",
    )
    parser.add_argument("--class", dest="label", type=str, default="", help="class of the images (default: inferred)")
    parser.add_argument("--invert", type=bool, default=False, help="swap dark and light first, for ink on paper")
    parser.add_argument("--count", type=int, default=20, help="held-out images, where no files are given")


def _reconstruct(options: Namespace) -> None:
    from . import figures
    from .report import reconstruction_picture

    run = _existing_run(options.run)
    model = run.model()
    out = _writable(options.out or run.directory / "reconstruct.png")
    images, labels, names = _read_images(run, model, options.images, options.count, options.invert)
    if options.label:
        labels = _labels(run, model, [options.label]).expand(len(images))
    if out.is_dir():
        labels = model.infer_labels(images) if model.classes and labels is None else labels
        features = model.reconstruct(images, labels if model.classes else None)
        stages = {"feature": features}
        if model.refiner is not None:
            stages["refined"] = model.refine(features, labels if model.classes else None)
        for stage, results in stages.items():
            for name, result in zip(names, results, strict=True):
                figures.save_image(result, out / f"{name}-{stage}.png")
    else:
        reconstruction_picture(model, images, labels, out)
    print(f"Wrote {out}")


def _sample_arguments(parser: ArgumentParser) -> None:
    _run_argument(parser)
    parser.add_argument("--out", type=str, default="", help="picture to write (default: RUN/sample.png)")
    parser.add_argument("--classes", nargs="+", type=str, default=[], help="classes, by name or number (default: all)")
    parser.add_argument("--rows", type=int, default=10, help="samples of each class")
    parser.add_argument("--stress", type=float, default=1.0, help="above 1 emphasises the class")
    parser.add_argument("--seed", type=int, default=0, help="of the latents")


def _sample(options: Namespace) -> None:
    from .report import sample_picture

    run = _existing_run(options.run)
    model = run.model()
    if options.rows < 1:
        raise UsageError(f"--rows: expected at least 1, got {options.rows}")
    out = _writable(options.out or run.directory / "sample.png")
    columns = _labels(run, model, options.classes).tolist() if options.classes else None
    names = _class_names(run, model)
    sample_picture(model, names, out, rows=options.rows, columns=columns, stress=options.stress, seed=options.seed)
    print(f"Wrote {out}")


def _interpolate_arguments(parser: ArgumentParser) -> None:
    _run_argument(parser)
    parser.add_argument("images", nargs="*", type=str, help="four image files (default: four held-out images)")
    parser.add_argument("--out", type=str, default="", help="picture to write (default: RUN/interpolate.png)")
    parser.add_argument("--random", type=bool, default=False, help="corners from the prior instead of images")
    parser.add_argument("--invert", type=bool, default=False, help="swap dark and light of the files first")
    parser.add_argument("--size", type=int, default=11, help="images along each side")
    parser.add_argument("--seed", type=int, default=0, help="of the random corners")


def _interpolate(options: Namespace) -> None:
    import torch

    from .report import interpolation_picture

    run = _existing_run(options.run)
    model = run.model()
    if options.images and (len(options.images) != 4 or options.random):
        raise UsageError(f"images: expected four files, or none with --random, got {len(options.images)}")
    if options.size < 2:
        raise UsageError(f"--size: expected at least 2, got {options.size}")
    out = _writable(options.out or run.directory / "interpolate.png")
    if options.random:
        generator = torch.Generator().manual_seed(options.seed)
        latent = torch.randn(4, model.latent, generator=generator)
        labels = torch.randint(model.classes, (4,), generator=generator) if model.classes else None
        title = "between four draws from the prior"
    else:
        images, labels, _ = _read_images(run, model, options.images, 4, options.invert)
        latent, title = model.encode(images), "between four images"
        if model.classes and labels is None:
            labels = model.infer_labels(images)
    interpolation_picture(model, latent, labels if model.classes else None, out, title=title, size=options.size)
    print(f"Wrote {out}")


# --- shared -----------------------------------------------------------------------------------------


def _existing_run(name: str) -> Any:
    from .training import Run

    directory = Path(name)
    if not directory.is_dir():
        others = sorted(str(path.parent) for path in Path("runs").glob("*/config.yaml"))
        hint = f"; the runs here are {', '.join(others)}" if others else "; `falign quickstart` makes one"
        raise UsageError(f"{name}: no such run directory{hint}")
    return Run(directory)


def _new_run(name: str) -> None:
    from .training import Run

    directory = Path(name)
    if directory.exists() and not directory.is_dir():
        raise UsageError(f"--out {name}: is a file, expected a directory")
    if Run(directory).exists():
        raise UsageError(
            f"--out {name}: is not empty; continue that run with --resume true, or choose another directory"
        )


def _writable(name: str | Path) -> Path:
    """Check before the work that its result has a place to go."""
    path = Path(name)
    if str(name).endswith("/"):
        path.mkdir(parents=True, exist_ok=True)
    if not path.parent.is_dir():
        raise UsageError(f"--out {path}: there is no directory {path.parent}")
    if not path.is_dir() and path.suffix.lower() not in (".png", ".json"):
        raise UsageError(f"--out {path}: expected a name ending in .png")
    return path


def _data_of(run: Any, split: Literal["train", "test"], name: str = "") -> Any:
    from .data import load

    settings = dict(run.settings()["data"])
    return load(
        name or settings["name"], split, image_size=settings.get("image_size"), channels=settings.get("channels")
    )


def _class_names(run: Any, model: Any) -> tuple[str, ...]:
    """Return the names of the classes, or their numbers where the data set is no longer there."""
    from .data import DataError

    if not model.classes:
        return ()
    try:
        names: tuple[str, ...] = _data_of(run, "test").classes
    except DataError:
        names = tuple(str(number) for number in range(model.classes))
    return names


def _labels(run: Any, model: Any, wanted: list[str]) -> Any:
    import torch

    names = _class_names(run, model)
    if not names:
        raise UsageError(f"class {wanted[0]!r}: this {type(model).__name__} was trained without classes")
    found = []
    for name in wanted:
        matches = [index for index, known in enumerate(names) if known.lower() == name.lower()]
        if not matches and name.isdigit() and int(name) < len(names):
            matches = [int(name)]
        if not matches:
            raise UsageError(f"class {name!r}: expected one of {', '.join(names)}")
        found.append(matches[0])
    return torch.tensor(found)


def _read_images(run: Any, model: Any, files: list[str], count: int, invert: bool) -> tuple[Any, Any, list[str]]:
    """Return images, labels where they are known, and names."""
    import torch

    from .data import read_image
    from .report import one_of_each

    if not files:
        if count < 1:
            raise UsageError(f"--count: expected at least 1, got {count}")
        images, labels = one_of_each(_data_of(run, "test"), count)
        names = [f"held-out-{number:03}" for number in range(len(images))]
    else:
        channels, side, _ = model.image_shape
        images = torch.stack([read_image(file, side, channels) for file in files]).float() / 255
        labels, names = None, [Path(file).stem for file in files]
    return 1 - images if invert else images, labels, names


class Command:
    """A subcommand: what it takes and what it does."""

    def __init__(
        self, about: str, arguments: Callable[[ArgumentParser], None], run: Callable[[Namespace], None]
    ) -> None:
        self.about, self.arguments, self.run = about, arguments, run


COMMANDS = {
    "quickstart": Command(
        "train on real digits for a few minutes and show everything", _quickstart_arguments, _quickstart
    ),
    "train": Command("train a model from a YAML file; any value can be overridden", _training_arguments, _train),
    "evaluate": Command("measure a trained model on held-out images", _evaluate_arguments, _evaluate),
    "reconstruct": Command("reconstruct image files, or held-out images", _reconstruct_arguments, _reconstruct),
    "sample": Command("draw new images, by class if the model has classes", _sample_arguments, _sample),
    "interpolate": Command("go between four images", _interpolate_arguments, _interpolate),
}


def _command_parser(name: str) -> ArgumentParser:
    command = COMMANDS[name]
    parser = ArgumentParser(
        prog=f"falign {name}", description=f"{command.about[0].upper()}{command.about[1:]}.", exit_on_error=False
    )
    command.arguments(parser)
    return parser


def _parser(commands: dict[str, Command]) -> ArgumentParser:
    parser = ArgumentParser(
        prog="falign",
        description="Feature alignment: approximately reversible neural networks that reconstruct and sample.",
        version=f"falign {__version__}",
        exit_on_error=False,
    )
    subcommands = parser.add_subcommands(dest="command", required=bool(commands))
    for name, command in COMMANDS.items():
        subcommands.add_subcommand(
            name, _command_parser(name) if name in commands else ArgumentParser(), help=command.about
        )
    return parser


if __name__ == "__main__":
    sys.exit(main())
