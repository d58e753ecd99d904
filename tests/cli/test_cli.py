"""The command as a user runs it: a small training end to end, every file it writes, every way to get it wrong."""

from __future__ import annotations

import csv
import functools
import json
import os
import signal
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from feature_alignment.cli.main import CONFIGS, _model_options, main
from feature_alignment.data import load
from feature_alignment.models import Model
from feature_alignment.training import Run

SMALL = [
    "--data.batch_size=64", "--model.channels=[4,8]", "--model.width=32", "--model.latent=8",
    "--model.refiner_filters=4", "--model.discriminator_width=8", "--training.checkpoint_every=10",
]  # fmt: skip


def falign(*arguments, **environment):
    """Run the command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "feature_alignment", *map(str, arguments)],
        capture_output=True, text=True, check=False, env=os.environ | environment,
    )  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run of the quickstart's recipe, narrower and of a few steps."""
    directory = tmp_path_factory.mktemp("runs") / "small"
    done = falign("train", "--config", "quickstart", *SMALL, "--training.steps=30", "--out", directory)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert "warning" not in done.stderr
    assert "Try next" in done.stdout
    return directory


def size(path):
    with Image.open(path) as image:
        image.load()
        return image.size


def test_a_run_holds_everything_the_user_was_promised(run):
    names = {path.name for path in run.iterdir()}
    promised = {"config.yaml", "log.csv", "model.safetensors", "config.json", "metrics.json", "report.html",
                "reconstructions.png", "samples.png", "interpolation.png", "losses.png", "checkpoints"}  # fmt: skip
    assert promised <= names
    assert any(name.startswith("events.out.tfevents") for name in names)
    for name in ("reconstructions", "samples", "interpolation", "losses"):
        assert min(size(run / f"{name}.png")) > 300

    rows = list(csv.DictReader((run / "log.csv").open()))
    assert [int(float(row["step"])) for row in rows] == [9, 19, 29]
    assert all(float(row[name]) > 0 for row in rows for name in ("reconstruction", "kl", "refiner", "discriminator"))

    metrics = json.loads((run / "metrics.json").read_text())
    assert (metrics["images"], metrics["samples"], metrics["seed"], metrics["steps"]) == (500, 500, 0, 30)
    assert metrics["seconds"] > 0
    assert yaml.safe_load((run / "config.yaml").read_text())["model"]["init_args"]["latent"] == 8


def test_the_saved_model_is_the_one_that_was_measured(run):
    model, test = Model.from_pretrained(run), load("mnist-mini", "test")
    error = (test.images() - model.reconstruct(test.images(), test.labels)).square().sum((1, 2, 3)).mean()
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["reconstruction_error"]["feature"] == pytest.approx(float(error), rel=1e-4)


def test_the_report_is_one_page_that_needs_nothing_else(run):
    class Sources(HTMLParser):
        found: list[str] = []  # noqa: RUF012

        def handle_starttag(self, tag, attributes):
            self.found += [value for name, value in attributes if name in ("src", "href")]

    page = (run / "report.html").read_text()
    parser = Sources()
    parser.feed(page)
    assert len(parser.found) == 4
    assert all(source.startswith("data:image/png;base64,") for source in parser.found)
    error = json.loads((run / "metrics.json").read_text())["reconstruction_error"]["feature"]
    assert f"{error:.3g}" in page


def test_evaluate_repeats_the_measurement(run, capsys):
    assert main(["evaluate", str(run)]) == 0
    measured, first = (json.loads((run / name).read_text()) for name in ("evaluation.json", "metrics.json"))
    assert measured["classifier_fid"] == pytest.approx(first["classifier_fid"])
    assert measured["reconstruction_error"] == pytest.approx(first["reconstruction_error"])
    assert "reconstruction error" in capsys.readouterr().out


def test_images_in_images_out(run, tmp_path):
    digit = Image.fromarray(255 - load("mnist-mini", "test").pixels[0, 0].numpy())
    digit.resize((90, 70)).convert("RGB").save(tmp_path / "my_digit.jpg")
    out = tmp_path / "out.png"
    assert main(["reconstruct", str(run), str(tmp_path / "my_digit.jpg"), "--invert", "--out", str(out)]) == 0
    assert min(size(out)) > 80
    assert (
        main(["reconstruct", str(run), str(tmp_path / "my_digit.jpg"), "--class", "7", "--out", f"{tmp_path}/all/"])
        == 0
    )
    assert {path.name: size(path) for path in (tmp_path / "all").iterdir()} == {
        "my_digit-feature.png": (28, 28),
        "my_digit-refined.png": (28, 28),
    }
    assert main(["reconstruct", str(run), "--count", "3"]) == 0
    assert (run / "reconstruct.png").is_file()


def test_written_images_are_the_models(run, tmp_path):
    pixels = load("mnist-mini", "test").pixels[4, 0].numpy()
    Image.fromarray(pixels).save(tmp_path / "four.png")
    assert main(["reconstruct", str(run), str(tmp_path / "four.png"), "--class", "2", "--out", f"{tmp_path}/"]) == 0
    model = Model.from_pretrained(run)
    feature = model.reconstruct(torch.from_numpy(pixels)[None, None].float() / 255, torch.tensor([2]))
    expected = (feature[0, 0] * 255).round().byte().numpy()
    assert np.array_equal(np.asarray(Image.open(tmp_path / "four-feature.png")), expected)


def test_sample_and_interpolate(run, tmp_path):
    narrow, wide = tmp_path / "narrow.png", tmp_path / "wide.png"
    assert main(["sample", str(run), "--classes", "3", "7", "--rows", "2", "--stress", "2", "--out", str(narrow)]) == 0
    assert main(["sample", str(run), "--rows", "2", "--out", str(wide)]) == 0
    assert size(wide)[0] > 3 * size(narrow)[0] / 1.5
    first = wide.read_bytes()
    assert main(["sample", str(run), "--rows", "2", "--out", str(wide)]) == 0
    assert wide.read_bytes() == first  # a seed, a picture
    assert main(["interpolate", str(run), "--size", "3", "--out", str(narrow)]) == 0
    assert main(["interpolate", str(run), "--random", "--size", "4", "--out", str(wide)]) == 0
    assert size(wide)[0] > size(narrow)[0]


def test_killed_training_resumes_from_its_last_checkpoint(tmp_path):
    out = tmp_path / "killed"
    command = [sys.executable, "-m", "feature_alignment", "train", "--config", "quickstart", *SMALL,
               "--training.steps=400", f"--out={out}"]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    checkpoint, deadline = out / "checkpoints" / "last.ckpt", time.time() + 120
    while not checkpoint.is_file() and process.poll() is None and time.time() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert checkpoint.is_file()
    reached = torch.load(checkpoint, weights_only=False)["global_step"] // 3
    assert 10 <= reached < 400

    refused = falign("train", "--config", "quickstart", f"--out={out}")
    assert refused.returncode == 2
    assert "--resume" in refused.stderr
    unfinished = falign("sample", out)
    assert unfinished.returncode == 2
    assert "continue with --resume" in unfinished.stderr

    done = falign("train", "--out", out, "--resume", f"--training.steps={reached + 15}")
    assert done.returncode == 0, done.stderr
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["steps"] == reached + 15
    steps = [int(float(row["step"])) for row in csv.DictReader((out / "log.csv").open())]
    assert steps == sorted(set(steps))
    assert steps[-1] >= reached
    assert len(list(out.glob("log/part-*"))) == 2


def test_interrupted_training_keeps_what_it_has(tmp_path):
    out = tmp_path / "stopped"
    command = [sys.executable, "-m", "feature_alignment", "train", "--config", "quickstart", *SMALL,
               "--training.checkpoint_every=100000", f"--out={out}"]  # fmt: skip
    # A shell's background jobs inherit an ignored Ctrl-C; the command is to be tested as a terminal starts it.
    obey = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, preexec_fn=obey)
    log, deadline = out / "log" / "part-0" / "metrics.csv", time.time() + 120
    while not log.is_file() and process.poll() is None and time.time() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert "Traceback" not in said
    assert f"{out}: stopped at step" in said
    assert torch.load(out / "checkpoints" / "last.ckpt", weights_only=False)["global_step"] >= 30


def test_a_time_limit_ends_the_training_in_good_order(tmp_path):
    limit = ["--training.max_seconds=0.5", "--training.steps=100000"]
    assert main(["train", "--config", "quickstart", *SMALL, *limit, f"--out={tmp_path / 'short'}"]) == 0
    metrics = json.loads((tmp_path / "short" / "metrics.json").read_text())
    assert 0.5 <= metrics["seconds"] < 10
    rows = list(csv.DictReader((tmp_path / "short" / "log.csv").open()))
    assert abs(len(rows) - metrics["steps"] / 10) <= 1


def test_reduced_precision_by_its_short_name(tmp_path):
    options = ["train", "--config", "quickstart", *SMALL, "--training.steps=12"]
    losses = {}
    for precision in ("32-true", "tf32", "bf16-mixed"):
        out = tmp_path / precision
        assert main([*options, "--precision", precision, f"--out={out}"]) == 0
        assert f"precision: {precision}" in (out / "config.yaml").read_text()
        losses[precision] = float(list(csv.DictReader((out / "log.csv").open()))[-1]["reconstruction"])
    assert losses["tf32"] == pytest.approx(losses["32-true"], rel=1e-3)
    assert losses["bf16-mixed"] == pytest.approx(losses["32-true"], rel=0.1)
    assert losses["bf16-mixed"] != losses["32-true"]


@pytest.mark.slow
def test_a_compiled_training_is_the_same_training(tmp_path):
    losses = []
    for extra in ([], ["--compile"]):
        out = tmp_path / f"run-{len(losses)}"
        assert main(["train", "--config", "quickstart", *SMALL, "--training.steps=12", *extra, f"--out={out}"]) == 0
        losses.append(float(list(csv.DictReader((out / "log.csv").open()))[-1]["reconstruction"]))
    # The noise is drawn elsewhere, so the runs are alike, not equal.
    assert losses[1] == pytest.approx(losses[0], rel=0.1)


def test_a_loss_that_is_no_number_stops_the_training(tmp_path, capsys):
    out = tmp_path / "wild"
    rate = "--model.learning_rate=1e18"
    assert main(["train", "--config", "quickstart", *SMALL, rate, "--training.steps=30", f"--out={out}"]) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith("falign: error: the loss '")
    assert "a smaller learning_rate" in said
    assert not (out / "model.safetensors").exists()


def test_the_log_keeps_each_step_once_however_often_training_went_on(tmp_path):
    for part, text in enumerate(("step,kl\n9,1\n19,2\n29,3\n", "step,kl,refiner\n19,5,\n29,6,7\n", "")):
        directory = tmp_path / "log" / f"part-{part}"
        directory.mkdir(parents=True)
        (directory / "metrics.csv").write_text(text)
    rows = Run(tmp_path).rows()
    assert rows == [{"step": 9, "kl": 1}, {"step": 19, "kl": 5}, {"step": 29, "kl": 6, "refiner": 7}]


def test_training_on_a_folder_of_ones_own_images(tmp_path, cache):
    rng = np.random.default_rng(0)
    for kind, colour in (("warm", (220, 90, 30)), ("cold", (30, 90, 220))):
        (tmp_path / "mine" / kind).mkdir(parents=True)
        for number in range(20):
            picture = np.clip(np.array(colour) + rng.integers(-30, 30, (40, 30, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(picture).save(tmp_path / "mine" / kind / f"{number}.png")
    (tmp_path / "mine" / "warm" / "broken.png").write_bytes(b"no")
    command = ["train", "--config", "quickstart", *SMALL, "--data.name", tmp_path / "mine", "--data.image_size=16",
               "--data.batch_size=8", "--training.steps=3"]  # fmt: skip
    done = falign(*command, "--out", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    assert "broken.png: not a readable image" in done.stderr
    assert "skipped 1 of" in done.stderr
    assert falign("sample", tmp_path / "run", "--classes", "warm").returncode == 0
    strict = falign(*command, "--data.strict=true", "--out", tmp_path / "strict")
    assert (strict.returncode, strict.stderr.count("\n")) == (2, 1)
    assert "broken.png" in strict.stderr


def test_a_run_remembers_the_columns_of_its_data_set(tmp_path):
    import datasets

    rng = np.random.default_rng(0)
    for split, count in (("train", 40), ("test", 12)):
        columns = {
            "img": [Image.fromarray(rng.integers(0, 256, (8, 8), np.uint8)) for _ in range(count)],
            "coarse": ["even" if index % 2 else "odd" for index in range(count)],
            "fine": [f"kind {index % 3}" for index in range(count)],
        }
        (tmp_path / "set").mkdir(exist_ok=True)
        table = datasets.Dataset.from_dict(columns).cast_column("img", datasets.Image())
        table.to_parquet(tmp_path / "set" / f"{split}-0.parquet")
    options = ["--model=VFA", "--model.channels=[4]", "--model.width=8", "--model.latent=3", "--data.batch_size=8"]
    run = tmp_path / "run"
    columns = ["--data.image=img", "--data.label=fine", f"--data.name={tmp_path / 'set'}"]
    assert main(["train", *options, *columns, "--training.steps=2", f"--out={run}"]) == 0
    assert main(["evaluate", str(run)]) == 0
    assert main(["sample", str(run), "--classes", "kind 2", "--rows=2"]) == 0
    assert main(["sample", str(run), "--classes", "odd"]) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["bogus"], "unknown command 'bogus'; expected one of quickstart, train"),
        (["train"], "required: model"),
        (["train", "--model", "nope"], "unknown model; expected one of AE, FA, GAN, VAE, VFA, VFAGAN, Local"),
        (["train", "--model", "vfa-gan", "--model.latnt", "3"], "--model.latnt: VFAGAN has no such option; did you mean latent?"),
        (["train", "--model", "VFA", "--model.latent", "abc"], "latent: expected int. Got value: abc"),
        (["train", "--model", "VFA", "--model.steps", "0"], "steps: expected at least 1, got 0"),
        (["train", "--model", "VFA", "--model.squash", "x"], "squash: expected one of 'last', 'every', 'none'"),
        (["train", "--model", "VFA", "--model.channels", "[8,8,8]"], "divisible by 8"),
        (["train", "--config", "nope"], "--config nope: no such file, nor one of the configurations that come along: ae, celeba, cifar10"),
        (["train", "--model", "VFA", "--data.name", "nowhere"], "data set 'nowhere': neither a known name (mnist-mini, mnist, fash"),
        (["train", "--model", "AE", "--model.class_weight", "3"], "--model.class_weight: AE has no such option"),
        (["train", "--model", "Local", "--model.channels", "[8,8,8]"], "divisible by 8"),
        (["train", "--model", "VFA", "--data.batch_size", "9999"], "batch_size: expected 1 to 4500"),
        (["train", "--model", "VFA", "--training.steps", "0"], "steps: expected at least 1, got 0"),
        (["train", "--model", "VFA", "--training.precision", "12"], "precision=12: Precision '12' is invalid"),
        (["train", "--model", "VFA", "--bogus", "1"], "unrecognized arguments: --bogus 1"),
        (["train", "--resume", "--out", "nowhere"], "nowhere: no such run directory"),
        (["quickstart", "--seed", "x"], "seed"),
        (["evaluate", "nowhere"], "nowhere: no such run directory; `falign quickstart` makes one"),
        (["evaluate", "."], "not a saved model, there is no config.json"),
        (["evaluate", "RUN", "--data", "nowhere"], "data set 'nowhere'"),
        (["evaluate", "RUN", "--limit", "1"], "--limit: expected at least 2, got 1"),
        (["evaluate", "RUN", "--out", "no/where.json"], "there is no directory no"),
        (["reconstruct", "RUN", "missing.png"], "missing.png: no such file"),
        (["reconstruct", "RUN", "text.png"], "text.png: not a readable image (format not recognised)"),
        (["reconstruct", "RUN", "--class", "eleven"], "class 'eleven': expected one of 0, 1, 2"),
        (["reconstruct", "RUN", "--out", "out.gif"], "--out out.gif: expected a name ending in .png"),
        (["sample", "RUN", "--rows", "0"], "--rows: expected at least 1, got 0"),
        (["interpolate", "RUN", "text.png"], "images: expected four files"),
        (["interpolate", "RUN", "--size", "1"], "--size: expected at least 2"),
    ],
)  # fmt: skip
def test_every_mistake_is_one_line_and_exit_code_2(arguments, message, run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("text.png").write_text("hello")
    assert main([str(run) if each == "RUN" else each for each in arguments]) == 2
    said = capsys.readouterr()
    lines = said.err.strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("falign: error: ")
    assert message in lines[0]
    assert not list(tmp_path.glob("runs/*/*.ckpt"))


def test_a_checkpoint_of_another_model_is_named(run, tmp_path):
    import shutil

    shutil.copytree(run, tmp_path / "copy")
    done = falign("train", "--out", tmp_path / "copy", "--resume", "--model.latent=5", "--training.steps=40")
    assert done.returncode == 2
    assert done.stderr.strip().count("\n") == 0
    assert "last.ckpt: a checkpoint of another model" in done.stderr
    assert (tmp_path / "copy" / "config.yaml").read_text() == (run / "config.yaml").read_text()


@pytest.mark.parametrize(
    "command", ["quickstart", "train", "evaluate", "reconstruct", "sample", "interpolate", "reproduce"]
)
def test_help_has_an_example_and_no_markup(command, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([command, "--help"])
    assert stopped.value.code == 0
    said = capsys.readouterr().out
    assert f"Example: falign {command}" in " ".join(said.split())
    assert ":class:" not in said
    assert "``" not in said


@pytest.mark.parametrize("name", sorted(path.stem for path in CONFIGS.glob("*.yaml")))
def test_every_configuration_that_comes_along_can_be_trained(name, tmp_path):
    """With other data and narrower, but every option as it is written there."""
    narrow = {"channels": [4, 8], "width": 16, "refiner_filters": 4, "discriminator_width": 8, "search_steps": 2}
    kind = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())["model"]["class_path"].rpartition(".")[2]
    options = [f"--model.{option}={json.dumps(value).replace(' ', '')}" for option, value in narrow.items()
               if option in _model_options(kind)]  # fmt: skip
    arguments = ["train", "--config", name, "--data.name=mnist-mini", "--data.batch_size=8", "--training.steps=2"]
    assert main([*arguments, *options, f"--out={tmp_path / 'run'}"]) == 0
    assert type(Model.from_pretrained(tmp_path / "run")).__name__ == kind
    assert main(["sample", str(tmp_path / "run"), "--rows=2"]) == 0
    assert main(["interpolate", str(tmp_path / "run"), "--random", "--size=2"]) == 0


def test_print_config_is_a_config(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["train", "--config", "quickstart", "--model.latent", "5", "--print_config"])
    assert stopped.value.code == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    assert printed["model"]["init_args"]["latent"] == 5
    assert printed["data"]["name"] == "mnist-mini"


def test_two_processes_train_one_model(tmp_path):
    done = falign("train", "--config", "quickstart", *SMALL, "--training.steps=4", "--training.devices=2",
                  "--training.accelerator=cpu", "--out", tmp_path / "two", OMP_NUM_THREADS="1")  # fmt: skip
    assert done.returncode == 0, done.stderr
    metrics = json.loads((tmp_path / "two" / "metrics.json").read_text())
    assert metrics["steps"] == 4
    assert metrics["device"].startswith("2 x cpu")


def test_the_readmes_python_runs(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    alone, inverting, with_run = (part.split("```")[0] for part in readme.split("```python\n")[1:])
    spaces = {}
    exec(alone.replace("torch.rand(100, 128", "torch.rand(3, 128"), spaces)
    assert spaces["feature"].shape == (128, 1, 28, 28)
    exec(inverting, spaces)
    assert spaces["found"].converged.all()
    test = load("mnist-mini", "test")
    spaces = {"images": test.images(10), "labels": test.labels[:10]}
    exec(with_run.replace("runs/quickstart", str(run)), spaces)
    assert spaces["samples"].shape == (10, 1, 28, 28)
    assert (tmp_path / "somewhere" / "model.safetensors").is_file()


@pytest.mark.slow
def test_quickstart_meets_its_promise(tmp_path, monkeypatch):
    """Minutes long: the recipe as shipped, against the thresholds it was made for."""
    monkeypatch.chdir(tmp_path)
    done = falign("quickstart")
    assert done.returncode == 0, done.stderr
    metrics = json.loads(Path("runs/quickstart/metrics.json").read_text())
    assert metrics["reconstruction_error"]["feature"] <= 30
    assert metrics["class_agreement"]["refined"] >= 0.8
    assert metrics["seconds"] <= 240
