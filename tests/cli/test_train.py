"""``falign train``: every file it writes, and where its options come from."""

from __future__ import annotations

import csv
import inspect
import json
import os
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
import yaml
from command import SMALL
from PIL import Image

from feature_alignment import models
from feature_alignment.cli import train
from feature_alignment.cli.configuration import bundled, read
from feature_alignment.cli.main import main
from feature_alignment.data import load
from feature_alignment.export.card import name_of_data
from feature_alignment.models import Model


def test_a_run_holds_everything_the_user_was_promised(run):
    names = {path.name for path in run.iterdir()}
    promised = {"config.yaml", "log.csv", "model.safetensors", "config.json", "metrics.json", "report.html",
                "reconstructions.png", "samples.png", "interpolation.png", "losses.png", "checkpoints"}  # fmt: skip
    assert promised <= names
    assert any(name.startswith("events.out.tfevents") for name in names)
    for name in ("reconstructions", "samples", "interpolation", "losses"):
        with Image.open(run / f"{name}.png") as picture:
            assert min(picture.size) > 300

    rows = list(csv.DictReader((run / "log.csv").open()))
    assert [int(float(row["step"])) for row in rows] == [9, 19, 29]
    assert all(float(row[name]) > 0 for row in rows for name in ("reconstruction", "kl", "refiner", "discriminator"))

    metrics = json.loads((run / "metrics.json").read_text())
    assert (metrics["images"], metrics["samples"], metrics["seed"], metrics["steps"]) == (500, 500, 0, 30)
    assert metrics["seconds"] > 0
    written = yaml.safe_load((run / "config.yaml").read_text())
    assert written["model"]["class_path"] == "feature_alignment.models.VFAGAN"
    assert written["model"]["init_args"]["latent"] == 8
    assert (written["data"]["name"], written["training"]["steps"]) == ("mnist-mini", 30)


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


def printed(capsys, *arguments, warning=""):
    """Return the configuration that the arguments come to."""
    with pytest.raises(SystemExit) as stopped:
        main(["train", *arguments, "--print_config"])
    assert stopped.value.code == 0
    said = capsys.readouterr()
    assert said.err == warning
    return yaml.safe_load(said.out)


def test_print_config_is_a_config(capsys, tmp_path):
    found = printed(capsys, "--config", "quickstart", "--model.latent", "5")
    assert found["model"]["init_args"]["latent"] == 5
    assert found["data"]["name"] == "mnist-mini"
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(found))
    assert printed(capsys, "--config", str(tmp_path / "mine.yaml")) == found


def test_what_is_said_later_and_nearer_wins(capsys, tmp_path):
    first, second = tmp_path / "first.yaml", tmp_path / "second.yaml"
    first.write_text("training: {steps: 7, seed: 3}\nmodel: {class_path: VFA, init_args: {latent: 4, width: 9}}")
    second.write_text("training: {seed: 4}\nmodel: {class_path: VFA, init_args: {width: 10}}")
    found = printed(capsys, "--config", str(first), "--training.steps=8", "--config", str(second))
    assert (found["training"]["steps"], found["training"]["seed"]) == (8, 4)
    assert (found["model"]["init_args"]["latent"], found["model"]["init_args"]["width"]) == (4, 10)


def test_another_model_keeps_the_options_that_it_has_too(capsys):
    warning = "falign: warning: AE has no beta: left out of the configuration\n"
    found = printed(capsys, "--config", "paper/vfa", "--model", "ae", "--model.latent=6", warning=warning)
    assert found["model"]["class_path"] == "feature_alignment.models.AE"
    assert found["model"]["init_args"]["latent"] == 6
    assert found["model"]["init_args"]["channels"] == [32, 64]
    assert "beta" not in found["model"]["init_args"]


def test_another_models_configuration_takes_the_place_of_the_first(capsys):
    alone = [printed(capsys, "--config", name) for name in ("fa", "quickstart")]
    for second, (name, other) in zip(alone, [("FA", "VFAGAN"), ("VFAGAN", "FA")], strict=True):
        files = ("quickstart", "fa") if name == "FA" else ("fa", "quickstart")
        warning = f"falign: warning: the second configuration's {name} replaces the first's {other}\n"
        found = printed(capsys, "--config", files[0], "--config", files[1], warning=warning)
        assert found["model"] == second["model"]


def test_the_help_of_a_model_can_be_read(capsys):
    with pytest.raises(SystemExit):
        main(["train", "--model", "FA", "--help"])
    said = capsys.readouterr().out
    assert "--model.encoder" in said
    assert "torchvision" not in said
    assert said.count("\n") < 500


@pytest.mark.parametrize(
    ("arguments", "option", "value"),
    [
        (["--precision", "bf16-mixed"], "precision", "bf16-mixed"),
        (["--compile"], "compile", "default"),
        (["--compile=max-autotune"], "compile", "max-autotune"),
        (["--training.compile=null"], "compile", None),
    ],
)
def test_options_of_every_training_have_a_short_name(arguments, option, value, capsys):
    assert printed(capsys, "--config", "quickstart", *arguments)["training"][option] == value


def test_an_option_can_be_none_though_its_default_is_not(capsys, tmp_path, no_report):
    options = ["--config=quickstart", *SMALL, "--model.clamp_weights=null", "--training.steps=1"]
    assert printed(capsys, *options)["model"]["init_args"]["clamp_weights"] is None
    assert main(["train", *options, f"--out={tmp_path / 'run'}"]) == 0
    written = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert written["model"]["init_args"]["clamp_weights"] is None


def test_a_module_of_ones_own_is_given_by_its_path(capsys, tmp_path, no_report):
    options = ["--model=VFA", "--model.encoder=torch.nn.Flatten", "--model.encoder.end_dim=3", "--model.width=784"]
    found = printed(capsys, *options)["model"]["init_args"]["encoder"]
    assert found == {"class_path": "torch.nn.Flatten", "init_args": {"start_dim": 1, "end_dim": 3}}
    assert main(["train", *options, "--training.steps=1", "--data.batch_size=4", f"--out={tmp_path / 'run'}"]) == 0


@pytest.mark.parametrize("name", bundled())
def test_every_bundled_configuration_can_be_trained(name, tmp_path, no_report):
    """With other data and narrower, but every option as it is written there."""
    narrow = {"channels": [4, 8], "width": 16, "refiner_filters": 4, "discriminator_width": 8, "search_steps": 2}
    kind = read(name)["model"]["class_path"].rpartition(".")[2]
    options = [f"--model.{option}={json.dumps(value).replace(' ', '')}" for option, value in narrow.items()
               if option in inspect.signature(getattr(models, kind)).parameters]  # fmt: skip
    arguments = ["train", "--config", name, "--data.name=mnist-mini", "--data.batch_size=8", "--training.steps=2"]
    assert main([*arguments, *options, f"--out={tmp_path / 'run'}"]) == 0
    assert type(Model.from_pretrained(tmp_path / "run")).__name__ == kind


@pytest.mark.parametrize(
    ("options", "classes"),
    [
        (["--config=vae"], 10),
        (["--config=vae", "--data.labels=false"], 0),
        (["--config=ae"], 0),
        (["--config=gon"], 0),
        (["--config=gon", "--data.labels=true"], 10),
    ],
)
def test_a_decoder_is_given_the_class_if_the_configuration_asks_for_it(options, classes, tmp_path, no_report):
    small = ["--model.channels=[4]", "--model.width=8", "--data.name=mnist-mini", "--data.batch_size=8"]
    assert main(["train", *options, *small, "--training.steps=1", f"--out={tmp_path / 'run'}"]) == 0
    model = Model.from_pretrained(tmp_path / "run")
    assert (model.classes, model.decoder[0].in_features) == (classes, 128 + classes)


def test_training_on_a_folder_of_ones_own_images(tmp_path, no_report, capsys):
    rng = np.random.default_rng(0)
    for kind, colour in (("warm", (220, 90, 30)), ("cold", (30, 90, 220))):
        (tmp_path / "mine" / kind).mkdir(parents=True)
        for number in range(20):
            picture = np.clip(np.array(colour) + rng.integers(-30, 30, (40, 30, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(picture).save(tmp_path / "mine" / kind / f"{number}.png")
    (tmp_path / "mine" / "warm" / "broken.png").write_bytes(b"no")
    command = ["train", "--config", "quickstart", *SMALL, f"--data.name={tmp_path / 'mine'}", "--data.image_size=16",
               "--data.batch_size=8", "--training.steps=3"]  # fmt: skip
    assert main([*command, f"--out={tmp_path / 'run'}"]) == 0
    said = capsys.readouterr().err
    assert "1 skipped: not a readable image: 1 (" in said
    assert "broken.png" in said
    assert main(["sample", str(tmp_path / "run"), "--classes", "warm"]) == 0
    capsys.readouterr()
    assert main([*command, "--data.strict=true", f"--out={tmp_path / 'strict'}"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "broken.png" in line


def test_a_run_remembers_the_columns_of_its_data_set(tmp_path, no_report):
    import datasets

    rng = np.random.default_rng(0)
    (tmp_path / "set").mkdir()
    for split, count in (("train", 40), ("test", 12)):
        columns = {
            "img": [Image.fromarray(rng.integers(0, 256, (8, 8), np.uint8)) for _ in range(count)],
            "coarse": ["even" if index % 2 else "odd" for index in range(count)],
            "fine": [f"kind {index % 3}" for index in range(count)],
        }
        table = datasets.Dataset.from_dict(columns).cast_column("img", datasets.Image())
        table.to_parquet(tmp_path / "set" / f"{split}-0.parquet")
    options = ["--model=VFA", "--model.channels=[4]", "--model.width=8", "--model.latent=3", "--data.batch_size=8"]
    run = tmp_path / "run"
    columns = ["--data.image=img", "--data.label=fine", f"--data.name={tmp_path / 'set'}"]
    assert main(["train", *options, *columns, "--training.steps=2", f"--out={run}"]) == 0
    assert main(["reconstruct", str(run), "--count=4"]) == 0
    assert main(["sample", str(run), "--classes", "kind 2", "--rows=2"]) == 0
    assert main(["sample", str(run), "--classes", "odd"]) == 2


def test_a_loss_that_is_no_number_stops_the_training(tmp_path, capsys):
    out = tmp_path / "wild"
    rate = "--model.learning_rate=1e18"
    assert main(["train", "--config", "quickstart", *SMALL, rate, "--training.steps=30", f"--out={out}"]) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith("falign: error: the loss '")
    assert "a smaller learning_rate" in said
    assert not (out / "model.safetensors").exists()


@pytest.mark.slow
def test_a_compiled_training_is_the_same_training(tmp_path, no_report):
    losses = []
    for extra in ([], ["--compile"]):
        out = tmp_path / f"run-{len(losses)}"
        assert main(["train", "--config", "quickstart", *SMALL, "--training.steps=12", *extra, f"--out={out}"]) == 0
        losses.append(float(list(csv.DictReader((out / "log.csv").open()))[-1]["reconstruction"]))
    # The noise is drawn elsewhere, so the runs are alike, not equal.
    assert losses[1] == pytest.approx(losses[0], rel=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("by", ["the command", "torchrun"])
def test_two_processes_train_one_model(by, tmp_path):
    torchrun = ["-m", "torch.distributed.run", "--nproc-per-node=2"] if by == "torchrun" else []
    devices = [] if by == "torchrun" else ["--training.devices=2"]
    done = subprocess.run(
        [sys.executable, *torchrun, "-m", "feature_alignment", "train", "--config", "quickstart", *SMALL, *devices,
         "--training.steps=4", "--training.accelerator=cpu", "--out", tmp_path / "two"],
        capture_output=True, text=True, check=False, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    metrics = json.loads((tmp_path / "two" / "metrics.json").read_text())
    assert metrics["steps"] == 4
    assert metrics["device"].startswith("2 x cpu")


def test_one_of_several_devices_is_named_as_pytorch_does(tmp_path, capsys):
    for device, said in (("cuda:1", "accelerator=cuda, devices=1,"), ("cuda:x", "one and its number such as cuda:1")):
        assert main(["train", "--config=cpu/ae", f"--out={tmp_path / 'out'}", f"--device={device}"]) == 2
        assert said in capsys.readouterr().err
    asked = [train.parse(["--config=cpu/ae", f"--device={each}"]).sections.training for each in ("cpu:0", "cuda:3")]
    assert [(each.accelerator, each.devices) for each in asked] == [("cpu", 1), ("cuda", "3,")]


def test_a_folder_is_named_as_one_also_where_others_read_of_it(tmp_path, monkeypatch):
    """``push`` from another directory would take ``photos/mine`` for a data set of the Hub."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos" / "mine").mkdir(parents=True)
    names = {"photos/mine": "./photos/mine", "../photos": "../photos", "owner/name": "owner/name", "mnist": "mnist"}
    found = {name: train.parse(["--config=cpu/ae", f"--data.name={name}"]).sections.data.name for name in names}
    assert found == names
    assert name_of_data(found["photos/mine"]) == "mine"
