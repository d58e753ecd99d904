"""The command ``falign``: train, look at and measure models without writing Python."""

from __future__ import annotations

import argparse
import difflib
import functools
import inspect
import json
import os
import re
import shutil
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from jsonargparse import ArgumentParser, DefaultHelpFormatter, Namespace

from .. import __version__
from ..core.speed.allocator import reuse_memory

__all__ = ["main"]

CONFIGS = Path(__file__).parents[1] / "configs"


#: Options that every training is likely to want, without the name of their group.
SHORT = {"--compile": "--training.compile=default", "--precision": "--training.precision"}


class UsageError(Exception):
    """Something the user asked for that cannot be; the message is one line."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``falign``; return the exit code: 0 on success, 2 if the request cannot be met, 130 if interrupted."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0] in ("-h", "--help", "--version"):
        _overview().parse_args(given or ["--help"])
        return 0
    # The heavy imports come after a bare --help.
    reuse_memory()
    from ..data import DataError
    from ..training import TrainingError

    warnings.showwarning = _show_warning
    name, *rest = given
    try:
        if name not in COMMANDS:
            raise UsageError(f"unknown command {name!r}; expected one of {', '.join(COMMANDS)}")
        COMMANDS[name].run(rest)
    except argparse.ArgumentError as error:
        print(f"falign: error: {_plain(error.message)} (see falign {name} --help)", file=sys.stderr)
        return 2
    except (UsageError, DataError, TrainingError, OSError) as error:
        print(f"falign: error: {_one_line(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as interrupt:
        print(f"falign: interrupted {interrupt}".strip(), file=sys.stderr)
        return 130
    return 0


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    print(f"falign: warning: {_one_line(message)}", file=sys.stderr)


def _one_line(message: object) -> str:
    return re.sub(r"\s+", " ", str(message)).strip()


def _plain(message: str) -> str:
    """Say what jsonargparse says of a bad argument in one line, without its inner types."""
    text = _one_line(message)
    problem = re.search(r"Problem with given class_path '[\w.]*\.(\w+)': (.*)", text)
    if problem:
        text = f"--model {problem[1]}: {problem[2]}"
        unknown = re.match(r"(?:Option|Key) '([\w.]+)' is not (?:accepted|expected)", problem[2])
        if unknown:
            options = _model_options(problem[1])
            near = difflib.get_close_matches(unknown[1], options, 1)
            hint = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(options)}"
            text = f"--model.{unknown[1]}: {problem[1]} has no such option; {hint}"
    text = re.sub(r" *Given value type: .*", "", text)
    text = re.sub(r"Does not validate against any of the Union subtypes Subtypes: \[.*?\] Errors: - ", "", text)
    text = re.sub(r"(?:typing\.)?Literal\[([^]]*)\]", lambda found: f"one of {found[1]}", text)
    text = re.sub(r"<class '(?:\w+\.)*(\w+)'>", r"\1", text)
    text = re.sub(r"Parser key \"([\w.]+)\": *", r"\1: ", text)
    return text.replace("Expected a one of", "expected one of").replace("Expected a ", "expected ")


def _model_options(name: str) -> list[str]:
    from .. import models

    names = inspect.signature(getattr(models, name)).parameters
    return [each for each in names if each not in ("image_shape", "classes")]


def _value_of(flag: str, arguments: list[str]) -> tuple[int, str] | None:
    """Return where ``flag`` has its value among ``arguments``, and the value."""
    for index, argument in enumerate(arguments):
        if argument.startswith(f"{flag}="):
            return index, argument.partition("=")[2]
        if argument == flag and index + 1 < len(arguments):
            return index + 1, arguments[index + 1]
    return None


def _by_name(arguments: list[str]) -> list[str]:
    """Let ``--config NAME`` find a configuration that comes along, and ``--model NAME`` a model."""
    from .. import models

    arguments = [SHORT.get(argument, argument) for argument in arguments]
    for short in ("--compile", "--precision"):
        arguments = [f"--training.{each[2:]}" if each.startswith(f"{short}=") else each for each in arguments]
    found = list(arguments)
    config = _value_of("--config", arguments)
    if config and not Path(config[1]).is_file():
        index, name = config
        packaged = CONFIGS / f"{name.removesuffix('.yaml')}.yaml"
        if not packaged.is_file():
            known = ", ".join(sorted(path.stem for path in CONFIGS.glob("*.yaml")))
            raise UsageError(f"--config {name}: no such file, nor one of the configurations that come along: {known}")
        found[index] = found[index].replace(name, str(packaged))
    model = _value_of("--model", arguments)
    if model and "." not in model[1]:  # a dotted name is a class of the user's own
        index, name = model
        kinds = {kind: kind.lower() for kind in models.__all__ if kind not in ("Loss", "Model", "Posterior", "Updates")}
        matches = [kind for kind, plain in kinds.items() if plain == name.lower().replace("-", "").replace("_", "")]
        if not matches:
            raise UsageError(f"--model {name}: unknown model; expected one of {', '.join(kinds)}")
        found[index] = found[index].replace(name, matches[0])
    return found


# --- training ---------------------------------------------------------------------------------------


def _training_parser() -> ArgumentParser:
    from ..data import DataOptions
    from ..models import Model
    from ..training import TrainingOptions

    parser = _parser("train")
    parser.add_argument(
        "--config", action="config", help="YAML file, or the name of one that comes along: quickstart, vfa-gan, ..."
    )
    parser.add_argument("--out", type=str, default="runs/train", help="run directory to write")
    parser.add_argument("--resume", action="store_true", help="go on from the newest checkpoint in --out")
    parser.add_class_arguments(TrainingOptions, "training")
    parser.add_class_arguments(DataOptions, "data")
    parser.add_argument("--model", type=Model, required=True, help="the model: FA, VFA, VFAGAN, Local, AE, VAE or GAN")
    for name in ("image_shape", "classes"):
        compute = functools.partial(_data_attribute, name)
        parser.link_arguments("data", f"model.init_args.{name}", compute_fn=compute, apply_on="instantiate")
    return parser


@functools.cache
def _training_data(options: Any) -> Any:
    """Return the data set of some options, read once."""
    from ..data import TrainingData

    return TrainingData(options)


def _data_attribute(name: str, options: Any) -> Any:
    return getattr(_training_data(options), name)


def _train(arguments: list[str]) -> None:
    if "--resume" in arguments:
        out = _value_of("--out", arguments)
        run = _existing_run(out[1] if out else "runs/train")
        run.settings()
        # What was asked for then, with what is asked for now on top.
        arguments = ["--config", str(run.config), *arguments]
    options = _training_parser().parse_args(_by_name(arguments))
    if not options.resume and _is_first_process():
        _new_run(options.out)
    _run_training(options)


def _quickstart(arguments: list[str]) -> None:
    parser = _parser("quickstart")
    parser.add_argument(
        "--out", type=str, default="", help="run directory to write (default: runs/quickstart, or the next free)"
    )
    parser.add_argument("--resume", action="store_true", help="go on from the newest checkpoint in --out")
    parser.add_argument("--seed", type=int, default=0, help="of initialisation, order of the images and noise")
    parser.add_argument("--steps", type=int, default=None, help="train on fewer or more batches than the recipe")
    options = parser.parse_args(arguments)

    out, number = options.out or "runs/quickstart", 2
    while not options.out and not options.resume and Path(out).exists():
        out, number = f"runs/quickstart-{number}", number + 1
    steps = [] if options.steps is None else [f"--training.steps={options.steps}"]
    if options.resume:
        _train([f"--out={out}", "--resume", *steps])
    else:
        _train(["--config=quickstart", f"--out={out}", f"--training.seed={options.seed}", *steps])


def _run_training(options: Namespace) -> None:
    from lightning_fabric import seed_everything

    from ..report.run_report import write_report
    from ..training import Run, fit

    run = Run(Path(options.out))
    seed_everything(options.training.seed, verbose=False)
    parser = _training_parser()
    try:
        ready = parser.instantiate(options)
    except ValueError as error:
        raise UsageError(_plain(str(error))) from None
    kept = options.clone()
    for name in ("config", "resume", "out"):
        kept.pop(name, None)
    run.directory.mkdir(parents=True, exist_ok=True)
    asked = parser.dump(kept, skip_validation=True)
    if not options.resume and _is_first_process():  # a run that cannot be resumed after all must keep its own
        run.config.write_text(asked)
    data, model, training = _training_data(ready.data), ready.model, ready.training
    print(
        f"Training {type(model).__name__} ({sum(each.numel() for each in model.parameters()):,} parameters) on "
        f"{len(data.train):,} images of {data.options.name}, {training.steps:,} steps of {data.batch_size} images "
        f"each, into {run.directory}",
        flush=True,
    )
    done = fit(model, data, run, training, resume=options.resume)
    if not _is_first_process():
        return
    run.config.write_text(asked)
    test = data.test()
    print(f"Measuring on {len(test):,} held-out images and drawing", flush=True)
    write_report(run, model, data.train, test, done, training.seed)
    _print_summary(run)


def _is_first_process() -> bool:
    """Whether this is not one of the further processes that distributed training starts with the same arguments."""
    return int(os.environ.get("LOCAL_RANK", "0")) == 0 and int(os.environ.get("NODE_RANK", "0")) == 0


def _print_summary(run: Any) -> None:
    metrics = json.loads(run.metrics.read_text())
    minutes, seconds = divmod(round(metrics["seconds"]), 60)
    print(f"\nTrained {metrics['steps']:,} steps in {minutes} min {seconds} s.\n")
    _print_metrics(metrics)
    directory = run.directory
    found = [
        ("report.html", "everything below on one page: open it in a browser"),
        ("reconstructions.png", "held-out images and what the model makes of them"),
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
    # As it can be typed here: `make quickstart` leaves the command in .venv/bin, not on the path.
    here = Path(sys.argv[0]).name == "falign" and not shutil.which("falign")
    falign = sys.argv[0] if here else "falign"
    print("\nTry next:")
    if "class_agreement" in metrics:
        print(f"  {falign} sample {directory} --classes 3 7 --stress 2 --out sample.png")
    print(f"  {falign} interpolate {directory} --random --out interpolation.png")
    print(f"  {falign} reconstruct {directory} my_image.png --out out.png    (--invert for ink on white paper)")
    print(f"  {falign} train --config quickstart --model.latent 16 --out runs/latent-16")


def _print_metrics(metrics: dict[str, Any]) -> None:
    from ..metrics import MEASURES, stages_of

    stages = stages_of(metrics)
    count = f"{metrics['images']} {metrics['split']} images of {metrics['data']}"
    print(f"{count:38}{'better':>8}" + "".join(f"{stage:>12}" for stage in stages))
    for name, measure in MEASURES.items():
        if name in metrics:
            numbers = [f"{metrics[name][stage]:12.3g}" if stage in metrics[name] else " " * 12 for stage in stages]
            print(f"{measure.title:38}{measure.better:>8}" + "".join(numbers).rstrip())
    print("(reference: the mean image; real training images; the classifier on held-out images)")
    for name, words in metrics.get("notes", {}).items():
        print(f"({name}: {words})")


# --- using a trained model --------------------------------------------------------------------------


def _run_parser(name: str) -> ArgumentParser:
    parser = _parser(name)
    parser.add_argument("run", type=str, help="run directory of a finished training")
    return parser


def _add_inception(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--fid",
        choices=["auto", "yes", "no"],
        default="auto",
        help="FID and KID with Inception-v3, slow without a GPU: if its weights are there, surely, or not",
    )
    parser.add_argument(
        "--inception-weights", type=str, default="", help="file with its weights (default: torch hub's, if there)"
    )


def _evaluate_parser() -> ArgumentParser:
    parser = _run_parser("evaluate")
    parser.add_argument("--data", type=str, default="", help="another data set or folder than the run's own")
    parser.add_argument(
        "--limit", type=int, default=None, help="measure on only so many held-out images, evenly spread"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the samples")
    _add_inception(parser)
    parser.add_argument("--out", type=str, default="", help="JSON file to write (default: RUN/evaluation.json)")
    return parser


def _evaluate(arguments: list[str]) -> None:
    options = _evaluate_parser().parse_args(arguments)
    from ..metrics import evaluate

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
    inception = _inception(options)
    metrics = evaluate(model, train, test, seed=options.seed, limit=options.limit, inception=inception)
    _print_metrics(metrics)
    out.write_text(json.dumps(metrics, indent=2) + "\n")
    print(f"Wrote {out}")


def _inception(options: Namespace) -> Any:
    """Return the network that FID looks through; none without ``--fid``, or where its weights are missing."""
    import torch

    from ..metrics import INCEPTION_URL, Inception, inception_weights

    weights = options.inception_weights
    if options.fid == "no":
        return None
    if not weights and not inception_weights().is_file():
        missing = (
            f"FID and KID need the weights of Inception-v3: download {INCEPTION_URL} and give the file with "
            f"--inception-weights, or put it into {inception_weights().parent}"
        )
        if options.fid == "yes":
            raise UsageError(f"--fid yes: {missing}")
        print(f"falign: left out: {missing}", file=sys.stderr)
        return None
    try:
        return Inception(weights or inception_weights()).to("cuda" if torch.cuda.is_available() else "cpu")
    except (FileNotFoundError, ValueError) as error:
        raise UsageError(f"--inception-weights {error}") from None


def _reconstruct_parser() -> ArgumentParser:
    parser = _run_parser("reconstruct")
    parser.add_argument("images", nargs="*", type=str, help="image files (default: held-out images of the data set)")
    parser.add_argument(
        "--out",
        type=str,
        default="",
        help="picture to write, or a folder for one file an image (default: RUN/reconstruct.png)",
    )
    parser.add_argument("--class", dest="label", type=str, default="", help="class of the images (default: inferred)")
    parser.add_argument("--invert", action="store_true", help="swap dark and light first, for ink on paper")
    parser.add_argument("--count", type=int, default=20, help="held-out images, where no files are given")
    return parser


def _reconstruct(arguments: list[str]) -> None:
    options = _reconstruct_parser().parse_args(arguments)
    from ..report import pictures as figures
    from ..report.run_report import reconstruction_picture

    run = _existing_run(options.run)
    model = run.model()
    out = _writable(options.out or run.directory / "reconstruct.png")
    images, labels, names = _read_images(run, model, options.images, options.count, options.invert)
    if options.label:
        labels = _labels(run, model, [options.label]).expand(len(images))
    if out.is_dir():
        labels = model.infer_labels(images) if model.classes and labels is None else labels
        decoded = model.reconstruct(images, labels if model.classes else None)
        stages = {model.stage: decoded}
        if model.refiner is not None:
            stages["refined"] = model.refine(decoded, labels if model.classes else None)
        for stage, results in stages.items():
            for name, result in zip(names, results, strict=True):
                figures.save_image(result, out / f"{name}-{stage}.png")
    else:
        reconstruction_picture(model, images, labels, out)
    print(f"Wrote {out}")


def _sample_parser() -> ArgumentParser:
    parser = _run_parser("sample")
    parser.add_argument("--out", type=str, default="", help="picture to write (default: RUN/sample.png)")
    parser.add_argument("--classes", nargs="+", type=str, default=[], help="classes, by name or number (default: all)")
    parser.add_argument("--rows", type=int, default=10, help="samples of each class")
    parser.add_argument("--stress", type=float, default=1.0, help="above 1 emphasises the class")
    parser.add_argument("--seed", type=int, default=0, help="of the latents")
    return parser


def _sample(arguments: list[str]) -> None:
    options = _sample_parser().parse_args(arguments)
    from ..report.run_report import sample_picture

    run = _existing_run(options.run)
    model = run.model()
    if options.rows < 1:
        raise UsageError(f"--rows: expected at least 1, got {options.rows}")
    out = _writable(options.out or run.directory / "sample.png")
    columns = _labels(run, model, options.classes).tolist() if options.classes else None
    names = _class_names(run, model)
    sample_picture(model, names, out, rows=options.rows, columns=columns, stress=options.stress, seed=options.seed)
    print(f"Wrote {out}")


def _interpolate_parser() -> ArgumentParser:
    parser = _run_parser("interpolate")
    parser.add_argument("images", nargs="*", type=str, help="four image files (default: four held-out images)")
    parser.add_argument("--out", type=str, default="", help="picture to write (default: RUN/interpolate.png)")
    parser.add_argument("--random", action="store_true", help="corners from the prior instead of images")
    parser.add_argument("--invert", action="store_true", help="swap dark and light of the files first")
    parser.add_argument("--size", type=int, default=11, help="images along each side")
    parser.add_argument("--seed", type=int, default=0, help="of the random corners")
    return parser


def _interpolate(arguments: list[str]) -> None:
    options = _interpolate_parser().parse_args(arguments)
    import torch

    from ..report.run_report import interpolation_picture

    run = _existing_run(options.run)
    model = run.model()
    if options.images and (len(options.images) != 4 or options.random):
        raise UsageError(f"images: expected four files, or none with --random, got {len(options.images)}")
    if options.size < 2:
        raise UsageError(f"--size: expected at least 2, got {options.size}")
    out = _writable(options.out or run.directory / "interpolate.png")
    if options.random:
        generator = torch.Generator().manual_seed(options.seed)
        latent = model.prior(4, generator)
        labels = torch.randint(model.classes, (4,), generator=generator) if model.classes else None
        title = "between four draws from the prior"
    else:
        images, labels, _ = _read_images(run, model, options.images, 4, options.invert)
        latent, title = model.encode(images), "between four images"
        if model.classes and labels is None:
            labels = model.infer_labels(images)
    interpolation_picture(model, latent, labels if model.classes else None, out, title=title, size=options.size)
    print(f"Wrote {out}")


def _reproduce_parser() -> ArgumentParser:
    from ..reproduce import SCALES, TARGETS

    parser = _parser("reproduce")
    parser.add_argument("target", type=str, help=f"{', '.join(TARGETS)}, or all")
    parser.add_argument("--data", type=str, default="", help="data set or folder (default: the paper's)")
    parser.add_argument(
        "--scale",
        choices=[*SCALES],
        default="cpu",
        help="paper: its setting, for a GPU; cpu: narrower and shorter; smoke: to see that everything runs",
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="one training each")
    parser.add_argument("--out", type=str, default="", help="directory to write (default: reproduction/SCALE)")
    _add_inception(parser)
    return parser


def _reproduce(arguments: list[str]) -> None:
    options = _reproduce_parser().parse_args(arguments)
    from ..reproduce import TARGETS, reproduce

    if options.target not in (*TARGETS, "all"):
        raise UsageError(f"target {options.target!r}: expected one of {', '.join(TARGETS)}, all")
    if len(set(options.seeds)) < len(options.seeds) or min(options.seeds) < 0:
        raise UsageError(f"--seeds: expected different numbers of at least 0, got {' '.join(map(str, options.seeds))}")
    out = Path(options.out or f"reproduction/{options.scale}")
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out {out}: is a file, expected a directory")
    written = reproduce(options.target, options.data or None, options.scale, options.seeds, out, _inception(options))
    print(f"Wrote {written[-2]}, {written[-1]} and what they show beside them")


# --- shared -----------------------------------------------------------------------------------------


def _existing_run(name: str) -> Any:
    from ..training import Run

    directory = Path(name)
    if not directory.is_dir():
        others = sorted(str(path.parent) for path in Path("runs").glob("*/config.yaml"))
        hint = f"; the runs here are {', '.join(others)}" if others else "; `falign quickstart` makes one"
        raise UsageError(f"{name}: no such run directory{hint}")
    return Run(directory)


def _new_run(name: str) -> None:
    from ..training import Run

    directory = Path(name)
    if directory.exists() and not directory.is_dir():
        raise UsageError(f"--out {name}: is a file, expected a directory")
    if Run(directory).exists():
        raise UsageError(f"--out {name}: is not empty; continue that run with --resume, or choose another directory")


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
    from ..data import load

    settings = dict(run.settings()["data"])
    columns: dict[str, Any] = {} if name else {column: settings.get(column) for column in ("image", "label")}
    return load(
        name or settings["name"],
        split,
        image_size=settings.get("image_size"),
        channels=settings.get("channels"),
        **columns,
    )


def _class_names(run: Any, model: Any) -> tuple[str, ...]:
    """Return the names of the classes, or their numbers where the data set is no longer there."""
    from ..data import DataError

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

    from ..data import read_image
    from ..report.run_report import one_of_each

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


class _Help(DefaultHelpFormatter):
    """Help from docstrings, without their markup."""

    def _expand_help(self, action: argparse.Action) -> str:
        text = super()._expand_help(action).replace("``", "")
        return re.sub(r":\w+:`[\w.]*?(\w+)`|:math:`([^`]*)`", lambda found: found[1] or found[2], text)


class Command(NamedTuple):
    """A subcommand: what it does, an example, and the function that takes its arguments."""

    about: str
    example: str
    run: Callable[[list[str]], None]


COMMANDS = {
    "quickstart": Command(
        "train on real digits for a few minutes and show everything", "falign quickstart", _quickstart
    ),
    "train": Command(
        "train a model from a YAML file; any value can be overridden",
        "falign train --config quickstart --data.name my_images --model.latent 16 --out runs/mine",
        _train,
    ),
    "evaluate": Command("measure a trained model on held-out images", "falign evaluate runs/quickstart", _evaluate),
    "reconstruct": Command(
        "reconstruct image files, or held-out images",
        "falign reconstruct runs/quickstart my_digit.png --out out.png",
        _reconstruct,
    ),
    "sample": Command(
        "draw new images, by class if the model has classes",
        "falign sample runs/quickstart --classes 3 7 --out sample.png",
        _sample,
    ),
    "interpolate": Command(
        "go between four images", "falign interpolate runs/quickstart --random --out interpolation.png", _interpolate
    ),
    "reproduce": Command(
        "make the paper's tables and figures anew", "falign reproduce table1 --data mnist --scale cpu", _reproduce
    ),
}


def _parser(name: str) -> ArgumentParser:
    command = COMMANDS[name]
    return ArgumentParser(
        prog=f"falign {name}",
        description=f"{command.about[0].upper()}{command.about[1:]}. Example: {command.example}",
        exit_on_error=False,
        formatter_class=_Help,
    )


def _overview() -> ArgumentParser:
    parser = ArgumentParser(
        prog="falign",
        description="Feature alignment: approximately reversible neural networks that reconstruct and sample.",
        version=f"falign {__version__}",
    )
    subcommands = parser.add_subcommands(dest="command")
    for name, command in COMMANDS.items():
        subcommands.add_subcommand(name, _parser(name), help=command.about)
    return parser


if __name__ == "__main__":
    sys.exit(main())
