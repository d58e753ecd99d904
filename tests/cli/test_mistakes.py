"""Every way to get a command wrong: one line, that says what and where and what would be right."""

from __future__ import annotations

import re
import shutil
from itertools import pairwise
from pathlib import Path

import pytest

from feature_alignment.cli.main import main
from feature_alignment.training import Run, TrainingError

FILES = {
    "text.png": "hello",
    "bad.yaml": "data: [1",
    "typo.yaml": "model: {class_path: VFA, init_args: {latnt: 3}}",
    "value.yaml": "model: {class_path: VFA}\ntraining: {steps: many}",
    "section.yaml": "modle: {class_path: VFA}",
    "date.yaml": "data: {batch_size: 2001-99-99}",
    "deep.yaml": "[" * 10_000,
    "laughs.yaml": "data:\n  a: &a [0, 0]\n"
    + "".join(f"  {b}: &{b} [*{a}, *{a}, *{a}, *{a}]\n" for a, b in pairwise("abcdefghijklm")),
    "null.yaml": "model: {class_path: VFA, init_args: {latent: null}}",
    "out.yaml": "model: {class_path: VFA}\nout: 3",
    "class.yaml": "model: {class_path: 3}",
    "arguments.yaml": "model: {class_path: VFA, init_args: [latent]}",
    "key.yaml": "training: {1: 2}",
    "path.yaml": "training: {steps../..: 2}",
    "range.yaml": "training: {steps: -2}",
    "size.yaml": "data: {image_size: 0}",
}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["bogus"], "unknown command 'bogus'; expected one of quickstart, train"),
        (["train"], "expected --config NAME or --model NAME"),
        (["train", "--config", "size.yaml"], "--config size.yaml: names no model; give --model NAME"),
        (["train", "--model", "VFA", "--steps", "9"], "arguments: --steps 9; did you mean --training.steps or --model.steps?"),
        (["train", "--model", "FA", "--model.encoder", "mine:Net"], "Got value: mine:Net; an import path is written mine.Net here"),
        (["invert", "mine.Net", "x.png"], "did you mean mine:Net?"),
        (["invert", "torchvision:resnet18", "--random", "x.png", "--jitter", "2", "--evaluations", "3"], "expected at least 10"),
        (["train", "--model", "nope"], "--model nope: unknown model; expected one of AE, FA, GAN, GON, Local, VAE, VFA, VFAGAN"),
        (["train", "--model", "vfa-gan", "--model.latnt", "3"], "--model.latnt: VFAGAN has no such option; did you mean latent?"),
        (["train", "--model", "VFA", "--model.latent", "abc"], "latent: expected int. Got value: abc"),
        (["train", "--model", "VFA", "--model.steps", "0"], "steps: expected at least 1, got 0"),
        (["train", "--model", "VFA", "--model.squash", "x"], "squash: expected one of 'last', 'every', 'none'"),
        (["train", "--model", "VFA", "--model.channels", "[8,8,8]"], "divisible by 8"),
        (["train", "--config", "nope"], "--config nope: no such file, nor one of the bundled configurations: cpu/ae, cpu/gan"),
        (["train", "--model", "VFA", "--data.name", "nowhere"], "data set 'nowhere': neither a known name (mnist-mini, mnist, fash"),
        (["train", "--model", "AE", "--model.class_weight", "3"], "--model.class_weight: AE has no such option"),
        (["train", "--model", "Local", "--model.channels", "[8,8,8]"], "divisible by 8"),
        (["train", "--model", "VFA", "--data.batch_size", "9999"], "--data.batch_size: expected 1 to 4500"),
        (["train", "--model", "VFA", "--training.steps", "0"], "--training.steps: expected at least 1, got 0"),
        (["train", "--model", "VFA", "--training.seed", "-1"], "--training.seed: expected a whole number from 0 to 4294967295, got -1"),
        (["train", "--model", "VFA", "--seed", "5000000000"], "--seed: expected a whole number from 0 to 4294967295, got 5000000000"),
        (["train", "--model", "VFA", "--training.devices", "x"], "training with accelerator=auto, devices=x, precision=32-true: "),
        (["train", "--model", "VFA", "--training.devices", "[1]"], "training with accelerator=auto, devices=[1], precision=32-true: "),
        (["train", "--model", "VFAGAN", "--model.refiner_kernel", "-1"], "refiner_kernel: expected an odd number of at least 1, got -1"),
        (["train", "--model", "VFA", "--training.precision", "12"], "precision=12: Precision '12' is invalid"),
        (["train", "--model", "VFA", "--model.clip_gradient", "x"], "--model.clip_gradient: expected float, null. Got value: x"),
        (["train", "--model", "VFA", "--training.stps", "1"], "--training.stps: training has no such option; did you mean steps?"),
        (["train", "--model", "VFA", "--seed", "3", "--training.seed=4"], "--seed and --training.seed: expected one of them"),
        (["train", "--model", "VFA", "--device", "cpu", "--training.accelerator", "cuda"], "--device and --training.accelerator: exp"),
        (["train", "--model", "nowhere.Model"], "--model nowhere.Model: cannot be imported: No module named 'nowhere'"),
        (["train", "--model", "torch.nn.Flatten"], "--model torch.nn.Flatten: expected a subclass of"),
        (["train", "--config", "text.png"], "--config text.png: expected the sections data, training and model, got hello"),
        (["train", "--config", "bad.yaml"], "--config bad.yaml: not YAML"),
        (["train", "--config", "typo.yaml"], "--model.latnt: VFA has no such option; did you mean latent?"),
        (["train", "--config", "value.yaml"], "--training.steps: expected int. Got value: many"),
        (["train", "--config", "date.yaml"], "--config date.yaml: not YAML: month must be in 1..12"),
        (["train", "--config", "deep.yaml"], "--config deep.yaml: not YAML: maximum recursion depth exceeded"),
        (["train", "--config", "laughs.yaml"], "--config laughs.yaml: not YAML: more than 100,000 values"),
        (["train", "--config", "null.yaml"], "--model.latent: expected int, got null"),
        (["train", "--config", "out.yaml"], "--config out.yaml: out: expected a directory, got 3"),
        (["train", "--config", "class.yaml"], "--config class.yaml: model: expected class_path, a name, and init_args"),
        (["train", "--config", "arguments.yaml"], "--config arguments.yaml: model: expected class_path, a name, and init_args"),
        (["train", "--config", "key.yaml"], "--config key.yaml: training: expected the name of an option, got 1"),
        (["train", "--model", "VFA", "--config", "path.yaml"], "--training.steps../..: training has no such option; did you mean steps?"),
        (["train", "--model", "VFA", "--config", "range.yaml"], "--training.steps: expected at least 1, got -2"),
        (["train", "--model", "VFA", "--config", "size.yaml"], "--data.image_size: expected at least 1, got 0"),
        (["train", "--config", "section.yaml"], "--config section.yaml: unknown section 'modle'; expected data, training or model"),
        (["train", "--model", "VFA", "--bogus", "1"], "unrecognized arguments: --bogus 1"),
        (["train", "--resume", "--out", "nowhere"], "nowhere: no such run directory"),
        (["train", "--model", "VFA", "--out", "text.png"], "--out text.png: is a file, expected a directory"),
        (["train", "--model", "VFA", "--out", "RUN"], "is not empty; continue that run with --resume, or choose another directory"),
        (["quickstart", "--seed", "x"], "argument --seed: expected a whole number from 0 to 4294967295, got x"),
        (["evaluate", "nowhere"], "nowhere: no such run directory; `falign quickstart` makes one"),
        (["evaluate", "."], "not a saved model, there is no config.json"),
        (["evaluate", "RUN", "--data", "nowhere"], "data set 'nowhere'"),
        (["evaluate", "RUN", "--limit", "1"], "--limit: expected at least 2, got 1"),
        (["evaluate", "RUN", "--out", "no/where.json"], "there is no directory no"),
        (["reconstruct", "RUN", "missing.png"], "missing.png: no such file"),
        (["reconstruct", "RUN", "text.png"], "text.png: not a readable image (format not recognised)"),
        (["reconstruct", "RUN", "--class", "eleven"], "class 'eleven': expected one of 0, 1, 2"),
        (["reconstruct", "RUN", "--out", "out.gif"], "--out out.gif: expected a name ending in .png"),
        (["sample", "RUN", "--seed", "99999999999999999999"], "argument --seed: expected a whole number from 0 to 4294967295, got 9999"),
        (["diagnose", "RUN", "--images", "x", "--seed", "-1"], "argument --seed: expected a whole number from 0 to 4294967295, got -1"),
        (["reconstruct", "RUN", "--out", "out.json"], "--out out.json: expected a name ending in .png"),
        (["sample", "RUN", "--out", "out.json"], "--out out.json: expected a name ending in .png"),
        (["sample", "RUN", "--out", "."], "--out .: is a folder; expected a name ending in .png"),
        (["sample", "RUN", "--out", "my.folder/"], "--out my.folder: is a folder; expected a name ending in .png"),
        (["interpolate", "RUN", "--random", "--out", "."], "--out .: is a folder; expected a name ending in .png"),
        (["evaluate", "RUN", "--out", "."], "--out .: is a folder; expected a name ending in .json"),
        (["evaluate", "RUN", "--out", "out.png"], "--out out.png: expected a name ending in .json"),
        (["evaluate", "RUN", "--out", "RUN/config.json"], "config.json: would overwrite"),
        (["score", "RUN", "text.png", "--out", "RUN/log.csv"], "log.csv: would overwrite"),
        (["sample", "RUN", "--stress", "nan"], "--stress: expected a finite number, got nan"),
        (["sample", "RUN", "--rows", "0"], "--rows: expected at least 1, got 0"),
        (["interpolate", "RUN", "text.png"], "images: expected four files"),
        (["interpolate", "RUN", "--random", "--negative"], "--negative: not with --random, which reads no images"),
        (["reconstruct", "RUN", "text.png", "--count", "3"], "--count: of held-out images, not with files"),
        (["interpolate", "RUN", "--size", "1"], "--size: expected at least 2"),
        (["export", "RUN"], "the following arguments are required: --out"),
        (["export", "RUN", "--format", "tflite", "--out", "x"], "argument --format: invalid choice: 'tflite'"),
        (["export", "RUN", "--out", "text.png"], "--out text.png: is a file, expected a folder"),
        (["export", "RUN", "--out", "x", "--tolerance", "0"], "--tolerance: expected a number greater than 0, got 0.0"),
        (["export", "nowhere", "--out", "x"], "nowhere: no such run directory"),
        (["push", "RUN", "name"], "name: expected owner/name of a repository on the Hugging Face Hub"),
        (["push", "RUN", "owner/name", "--out", "."], "--out .: expected a folder that is empty or not there yet"),
        (["push", "nobody/nothing", "owner/name"], "nobody/nothing: no such run directory"),
        (["sample"], "the following arguments are required: run"),
        (["sample", "RUN", "--row", "3"], "unrecognized arguments: --row"),
        (["reproduce", "fig99"], "target 'fig99': expected one of"),
        (["reproduce", "table1", "--scale", "huge"], "argument --scale: invalid choice: 'huge'"),
        (["reproduce", "table1", "--seeds", "1", "1"], "--seeds: expected different numbers of at least 0, got 1 1"),
        (["reproduce", "table1", "--seeds", "1", "5000000000"], "argument --seeds: expected a whole number from 0 to 4294967295"),
        (["evaluate", "RUN", "--fid", "yes", "--inception-weights", "nowhere.pth"], "--inception-weights nowhere.pth"),
        (["evaluate", "RUN", "--fid", "no", "--inception-weights", "nowhere.pth"], "--inception-weights: not with --fid no"),
    ],
)  # fmt: skip
def test_every_mistake_is_one_line_and_exit_code_2(arguments, message, run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name, text in FILES.items():
        Path(name).write_text(text)
    assert main([re.sub("^RUN", str(run), each) for each in arguments]) == 2
    said = capsys.readouterr()
    lines = said.err.strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("falign: error: ")
    assert message in lines[0]
    assert not list(tmp_path.glob("runs/*/*.ckpt"))


def test_an_option_that_the_checkpoint_does_not_fit_is_named(run, tmp_path, capsys):
    shutil.copytree(run, tmp_path / "copy")
    options = ["--resume", "--model.latent=5", "--training.steps=40"]
    assert main(["train", f"--out={tmp_path / 'copy'}", *options]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "last.ckpt: model.latent was 8 and is now 5; it defines the network whose weights" in line
    assert (tmp_path / "copy" / "config.yaml").read_text() == (run / "config.yaml").read_text()


@pytest.mark.parametrize(
    ("content", "evaluating", "resuming"),
    [
        (b"", "got None", "got None"),
        (b"data: [1", "not a readable configuration", "not a readable configuration"),
        (b"\xff\xfe\x00", "not a readable configuration", "not a readable configuration"),
        (b"[data, model]", "expected the sections data", "expected the sections data"),
        (b"data: 3", "data: expected options and their values, got 3", "data: expected options and their values"),
        (b"model: {class_path: 3}", "model: expected class_path", "model: expected class_path"),
        (b"data: {1: 2}", "data: expected the name of an option, got 1", "data: expected the name of an option"),
        (b"model: {class_path: FA}", "data.name is missing", "last.ckpt: a checkpoint of another model"),
        (b"data: {name: 3}", "data.name: expected str, got 3", "config.yaml: names no model; give --model NAME"),
        (
            b"data: {name: x, image_size: big}",
            "data.image_size: expected int | None, got big",
            "config.yaml: names no model; give --model",
        ),
    ],
)
def test_a_damaged_configuration_of_a_run_is_one_line(content, evaluating, resuming, run, tmp_path, capsys):
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    (copy / "config.yaml").write_bytes(content)
    for command, message in (["evaluate", str(copy)], evaluating), (["train", f"--out={copy}", "--resume"], resuming):
        assert main(command) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("falign: error: ")
        assert message in line


@pytest.mark.parametrize("content", [b"", b"[1", b"3", b"\xff"])
def test_damaged_metrics_of_a_run_are_one_line(content, run, tmp_path, capsys):
    shutil.copytree(run, tmp_path / "copy")
    (tmp_path / "copy" / "metrics.json").write_bytes(content)
    with pytest.raises(TrainingError, match=r"metrics\.json: not the metrics of a run"):
        Run(tmp_path / "copy").results()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b'{"model": "VFAGAN"}'])
def test_a_damaged_description_of_a_model_is_one_line(content, run, tmp_path, capsys):
    shutil.copytree(run, tmp_path / "copy")
    (tmp_path / "copy" / "config.json").write_bytes(content)
    assert main(["sample", str(tmp_path / "copy")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "config.json: " in line


@pytest.mark.parametrize("left", [0, 1, 1000, -1])
def test_a_truncated_checkpoint_is_one_line(left, run, tmp_path, capsys):
    shutil.copytree(run, tmp_path / "copy")
    for path in (tmp_path / "copy" / "checkpoints").iterdir():
        path.write_bytes(path.read_bytes()[:left])
    assert main(["train", f"--out={tmp_path / 'copy'}", "--resume"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "last.ckpt: not a readable checkpoint" in line


@pytest.mark.parametrize("left", [0, 1, 1000, -1])
def test_a_truncated_model_is_one_line(left, run, tmp_path, capsys):
    shutil.copytree(run, tmp_path / "copy")
    weights = tmp_path / "copy" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:left])
    assert main(["sample", str(tmp_path / "copy")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "model.safetensors: does not fit config.json" in line
