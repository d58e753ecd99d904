"""Classes by name: exactly as written, then without regard to case, then by number."""

from __future__ import annotations

import shlex
import shutil
import sys
import unicodedata
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

from feature_alignment.cli.errors import UsageError
from feature_alignment.cli.main import main
from feature_alignment.cli.runs import data_of, labels_of
from feature_alignment.cli.summary import print_summary
from feature_alignment.models import AE, Model
from feature_alignment.training import Run, TrainingError


def labels(names, *wanted):
    return labels_of(SimpleNamespace(classes=len(names), class_names=tuple(names)), list(wanted)).tolist()


def test_the_exact_name_comes_first():
    assert labels(["A", "a", "B"], "a", "A", "b") == [1, 0, 2]
    assert labels(["1", "0"], "0", "1") == [1, 0]
    assert labels(["cat", "dog"], "1") == [1]
    with pytest.raises(UsageError, match="class 'straße': which, STRASSE or Straße"):
        labels(["STRASSE", "Straße"], "straße")
    for asked in ("crane", "Crane"):
        with pytest.raises(UsageError, match=f"class '{asked}': is the name of 0 and 2; give the number"):
            labels(["crane", "egret", "crane"], asked)
    assert labels(["crane", "egret", "crane"], "2", "egret") == [2, 1]


def test_composed_and_decomposed_letters_are_the_same():
    composed, decomposed = (unicodedata.normalize(form, "Übung") for form in ("NFC", "NFD"))
    assert composed != decomposed
    assert labels([decomposed, "x"], composed) == labels([composed, "x"], decomposed) == [0]


def test_names_are_the_models_own_wherever_the_images_went(run, tmp_path, capsys):
    shutil.copytree(run, tmp_path / "run")
    model = Model.from_pretrained(run)
    model.class_names = tuple("abcdefghij")
    model.save_pretrained(tmp_path / "run")
    (tmp_path / "run" / "config.yaml").unlink()  # nothing is asked of the data set
    sample = ["sample", str(tmp_path / "run"), "--rows=1", f"--out={tmp_path / 'sample.png'}"]
    assert main([*sample, "--classes", "c", "j"]) == 0
    assert main([*sample, "--classes", "k"]) == 2
    assert "class 'k': expected one of a, b, c" in capsys.readouterr().err
    shutil.copy(run / "config.yaml", tmp_path / "run" / "config.yaml")
    assert main(["evaluate", str(tmp_path / "run")]) == 2
    assert "has the classes 0, 1, 2" in capsys.readouterr().err


def test_what_to_try_next_is_possible_with_this_model(run, tmp_path, monkeypatch, capsys):
    """Its own classes, a directory whose name has a space, and pictures that are there."""
    copy = tmp_path / "my run"
    shutil.copytree(run, copy)
    model = Model.from_pretrained(run)
    model.class_names = ("cat, tabby", *"bcdefghij")
    model.save_pretrained(copy)
    (copy / "interpolation.png").unlink()
    print_summary(Run(copy))
    listed, examples = capsys.readouterr().out.split("Try next:\n")
    assert "  samples.png " in listed
    assert "  interpolation.png " not in listed
    monkeypatch.chdir(tmp_path)
    lines = [shlex.split(line.partition("    (")[0]) for line in examples.splitlines()]
    assert lines[0][1:] == ["sample", str(copy), "--classes", "cat, tabby", "b", "--stress", "2", "--out", "sample.png"]
    assert main([*lines[0][1:], "--rows=1"]) == 0
    assert lines[2][1:3] == ["reconstruct", str(copy)]


def test_a_model_without_classes_is_not_asked_for_them(run, tmp_path, capsys):
    shutil.copytree(run, tmp_path / "run")
    AE((1, 8, 8), latent=2, channels=(4,), width=8).save_pretrained(tmp_path / "run")
    print_summary(Run(tmp_path / "run"))
    assert "--classes" not in capsys.readouterr().out


OWN = """
from torch import nn
from feature_alignment.models import VFA

class Enc(nn.Sequential):
    def __init__(self, width: int = 8):
        super().__init__(nn.Flatten(), nn.Linear(784, width), nn.Tanh())

class MyModel(VFA):
    pass
"""


@pytest.mark.parametrize("own", ["encoder", "class"])
def test_a_run_with_code_of_ones_own_is_used_from_its_directory(own, tmp_path, monkeypatch, capsys, no_report):
    """Found in the working directory, when it is trained and afterwards; a run that was downloaded imports nothing."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    Path("mymod.py").write_text(OWN)
    sys.modules.pop("mymod", None)
    asked = ["--model", "VFA", "--model.encoder", "mymod.Enc"] if own == "encoder" else ["--model", "mymod.MyModel"]
    small = [
        "--model.latent=3",
        "--model.width=8",
        "--model.channels=[4, 4]",
        "--training.steps=2",
        "--data.batch_size=4",
    ]
    assert main(["train", *asked, *small, "--data.name=mnist-mini", "--data.batch_size=4", "--out=run"]) == 0, (
        capsys.readouterr().err
    )
    assert main(["sample", "run", "--out", "sample.png"]) == 0, capsys.readouterr().err
    Image.new("L", (28, 28), 200).save("digit.png")
    for more in ([], ["--variables", "run"]):
        asked = ["invert", "run", "digit.png", "--evaluations", "5", "--out", "out.png", *more]
        assert main(asked) == 0, capsys.readouterr().err
    if own == "encoder":
        config = Path("run/config.yaml").read_text()
        Path("run/config.yaml").write_text(config.replace("mymod.Enc", "os.mkdir").replace("width: 8", "path: made"))
        assert main(["sample", "run", "--out", "sample.png"]) == 2
        assert "model.encoder: expected a class of modules, got os.mkdir" in capsys.readouterr().err
        assert not Path("made").exists()
        Path("run/config.yaml").write_text(config)
        with pytest.raises(TrainingError, match="was built with encoder of your own, whose code is not saved"):
            Run(Path("run"), own_code=False).model()
    sys.modules.pop("mymod")
    Path("mymod.py").write_text("")
    assert main(["sample", "run", "--out", "sample.png"]) == 2
    assert "cannot be imported" in capsys.readouterr().err


def test_another_set_is_brought_to_the_shape_of_the_model(run, tmp_path):
    for number in range(20):
        Image.new("RGB", (64, 64), (number, 0, 0)).save(tmp_path / f"{number}.png")
    model = Model.from_pretrained(run)
    assert data_of(Run(run), model, "test", str(tmp_path)).pixels.shape[1:] == model.image_shape


def images_in(folder, shades):
    """Write two grey images of each shade and class."""
    for name, shade in shades.items():
        (folder / name).mkdir(parents=True)
        for number in range(6):
            Image.new("L", (8, 8), shade + number).save(folder / name / f"{number}.png")


def test_a_run_tells_of_images_that_are_not_those_it_was_trained_on(tmp_path, monkeypatch, no_report, capsys):
    images_in(tmp_path / "here" / "own", {"a": 20, "b": 200})
    images_in(tmp_path / "there" / "own", {"a": 200, "b": 20})
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    small = ["--model.latent=3", "--model.channels=[4]", "--model.width=8", "--data.image_size=8", "--data.channels=1"]
    steps = ["--data.batch_size=4", "--training.steps=1", "--training.accelerator=cpu"]
    assert main(["train", "--model=AE", "--data.name=own", *small, *steps, "--out=run"]) == 0
    run = Run(tmp_path / "here" / "run")
    assert run.images.read_text().startswith("train: 10 images of 1 x 8 x 8 in 2 classes, SHA-256 ")
    evaluate = ["evaluate", str(run.directory)]
    capsys.readouterr()
    assert main(evaluate) == 0
    assert "are not those of" not in capsys.readouterr().err
    monkeypatch.chdir(tmp_path / "there")
    assert main(evaluate) == 0
    said = capsys.readouterr().err
    assert "own: its train images (" in said
    assert "own: its test images (" in said
    monkeypatch.chdir(tmp_path / "empty")
    assert main(evaluate) == 2
    said = capsys.readouterr().err
    assert f"config.yaml: data.name, which is looked for from {tmp_path / 'empty'}: data set 'own': neither" in said


def test_a_training_that_never_began_may_be_begun_again(tmp_path):
    run = Run(tmp_path)
    for path in (run.config, run.images, run.lock):
        path.touch()
    assert not run.exists()
    run.log.touch()
    assert run.exists()
