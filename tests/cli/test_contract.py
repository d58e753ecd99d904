"""What holds of every command: exit codes, devices and seeds, ``~``, misspelt options, no colour, completion."""

from __future__ import annotations

import errno
import os
import pty
import subprocess
import sys

import pytest
import torch
from command import falign
from image_files import write_image
from PIL import Image

from feature_alignment.cli import completion, sample
from feature_alignment.cli.commands import COMMANDS
from feature_alignment.cli.errors import explain
from feature_alignment.cli.main import main, overview
from feature_alignment.cli.runs import distinct


def error(capsys, *arguments):
    assert main([*arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


FLAGS = [(name, flag) for name, command in COMMANDS.items() if name != "train"
         for flag in sorted(command.parser()._option_string_actions) if len(flag) > 4]  # fmt: skip


@pytest.mark.parametrize(("command", "flag"), FLAGS)
def test_the_nearest_of_a_misspelt_option_is_proposed(command, flag, capsys):
    said = error(capsys, command, *["x"] * (command not in ("quickstart", "completion")), f"{flag[:-2]}{flag[-1]}")
    if "required" not in said:  # --out without the o
        assert "did you mean --" in said


@pytest.mark.parametrize("section", ["model", "data", "training"])
def test_the_nearest_of_every_misspelt_option_of_a_training_is_proposed(section, capsys):
    from feature_alignment.cli.configuration import class_of
    from feature_alignment.cli.typed import TypedOptions

    names = [name for name in TypedOptions(class_of("vfa-gan")).names[section] if "." not in name]
    assert len(names) >= 8
    for name in names:
        said = error(capsys, "train", "--model", "vfa-gan", f"--{section}.{name[:-1]}_{name[-1]}=1")
        assert f"did you mean {name}?" in said, said


@pytest.mark.parametrize(
    ("arguments", "proposed"),
    [
        (["tran"], "did you mean train?"),
        (["train", "--model", "vfagn"], "did you mean VFAGAN?"),
        (["train", "--config", "quickstar"], "did you mean quickstart?"),
        (["train", "--config", "vfa", "--precison=x"], "did you mean --precision?"),
        (["train", "--config", "vfa", "--mode.latent=3"], "did you mean --model.latent?"),
        (["train", "--modle", "vfa"], "did you mean --model?"),
    ],
)
def test_the_nearest_of_other_words_is_proposed(arguments, proposed, capsys):
    assert proposed in error(capsys, *arguments)


def test_every_command_that_evaluates_a_network_takes_device_and_seed():
    for name in (
        "quickstart",
        "train",
        "evaluate",
        "reconstruct",
        "sample",
        "interpolate",
        "invert",
        "score",
        "diagnose",
    ):
        assert {"--device", "--seed"} <= set(COMMANDS[name].parser()._option_string_actions), name


def test_a_device_that_is_not_here_is_named_and_a_seed_is_used(run, tmp_path, capsys):
    assert "--device abacus: cannot be used here; cpu always can" in error(
        capsys, "sample", str(run), "--device=abacus"
    )
    if not torch.cuda.is_available():
        assert "--device cuda: cannot be used here" in error(capsys, "sample", str(run), "--device=cuda")
    out = tmp_path / "out.png"
    assert main(["reconstruct", str(run), "--count=2", "--device=cpu", "--seed=3", f"--out={out}"]) == 0
    assert torch.initial_seed() == 3


def test_files_of_equal_stem_do_not_overwrite_each_other(run, tmp_path):
    for name in ("a/x.png", "b/x.png", "a/x.jpg", "b/y.png", "b/X.bmp"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("L", (28, 28), 9).save(tmp_path / name)
    files = [str(tmp_path / name) for name in ("a/x.png", "b/x.png", "a/x.jpg", "b/y.png", "b/X.bmp")]
    assert main(["reconstruct", str(run), *files, "--class=1", f"--out={tmp_path / 'out'}/"]) == 0
    found = sorted(path.name for path in (tmp_path / "out").glob("*-feature.png"))
    assert found == ["X.bmp-feature.png", "a-x.png-feature.png", "b-x.png-feature.png", "x.jpg-feature.png",
                     "y-feature.png"]  # fmt: skip
    assert len({name.casefold() for name in distinct(["x-2.a", "x.a", "X.a", "x.A", "x.a-2.b"] * 2)}) == 10


WITH_FILES = {"reconstruct": ["RUN"], "interpolate": ["RUN"], "score": ["RUN"], "invert": ["resnet18"]}


@pytest.mark.parametrize("command", WITH_FILES)
def test_files_may_follow_an_option(command):
    before = WITH_FILES[command]
    for arguments in (
        [*before, "--out", "x.png", "a.jpg", "b.jpg"],
        [*before, "a.jpg", "b.jpg", "--out", "x.png"],
        ["--out", "x.png", *before, "a.jpg", "b.jpg"],
        [*before, "a.jpg", "--out", "x.png", "b.jpg"],
    ):
        found = COMMANDS[command].parse(arguments)
        assert (found.images, found.out) == (["a.jpg", "b.jpg"], "x.png")


def test_every_command_that_takes_files_is_among_them():
    takes = {name for name, command in COMMANDS.items() if name != "train"
             for action in command.parser()._actions
             if not action.option_strings and action.nargs in ("*", "+")}  # fmt: skip
    assert takes - {"reproduce"} == set(WITH_FILES)


def test_a_tilde_is_the_home_directory_after_an_equals_sign_too(run, tmp_path, monkeypatch, capsys, no_report):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").symlink_to(run)
    (tmp_path / "c.yaml").write_text("out: ~/from-yaml\nmodel: {class_path: FA}\ndata: {name: ~/nowhere}")
    assert main(["sample", "~/run", "--rows=1", "--out=~/s.png"]) == 0
    assert (tmp_path / "s.png").is_file()
    assert f"data set '{tmp_path}/nowhere'" in error(capsys, "train", "--config=~/c.yaml")
    assert f"data set '{tmp_path}/no'" in error(capsys, "train", "--config=~/c.yaml", "--data.name=~/no")
    assert f"data set '{tmp_path}/no'" in error(capsys, "evaluate", "~/run", "--data=~/no")
    assert f"{tmp_path}/no.png: no such file" in error(capsys, "reconstruct", "~/run", "~/no.png")
    narrow = ["--model.channels=[4]", "--model.width=8", "--training.steps=1", "--data.name=mnist-mini"]
    assert main(["train", "--config=~/c.yaml", *narrow]) == 0
    assert (tmp_path / "from-yaml" / "model.safetensors").is_file()
    assert not (tmp_path / "~").exists()


def test_a_mistake_leaves_no_run_behind(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    error(capsys, "train", "--model=FA", "--data.name=nowhere", "--out=new")
    assert not (tmp_path / "new" / "config.yaml").exists()


def test_a_data_set_without_held_out_images_is_refused_before_the_training(tmp_path, capsys):
    """One image a class leaves none to hold out."""
    write_image(tmp_path / "set" / "a" / "red.png", "red")
    write_image(tmp_path / "set" / "b" / "blue.png", "blue")
    options = ["--model=AE", "--model.channels=[4]", "--model.width=8", "--training.steps=1", "--data.batch_size=2"]
    said = error(capsys, "train", *options, f"--data.name={tmp_path / 'set'}", f"--out={tmp_path / 'run'}")
    assert "no images for the test split" in said
    assert {path.name for path in (tmp_path / "run").iterdir()} <= {".lock"}


def test_other_options_and_modules_are_refused_by_name_on_resuming(tmp_path, monkeypatch, capsys, no_report):
    """A module whose weights fit by chance is not the network that was trained."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "flat.py").write_text("import torch\n\nclass Flat(torch.nn.Flatten):\n    pass\n")
    out = f"--out={tmp_path / 'run'}"
    options = ["--model=VFA", "--model.width=784", "--model.encoder=torch.nn.Flatten", "--training.steps=2"]
    assert main(["train", *options, out, "--data.batch_size=4"]) == 0
    capsys.readouterr()
    assert main(["train", "--resume", out, "--model.encoder=flat.Flat"]) == 2
    assert "--model.encoder: was {'class_path': 'torch.nn.Flatten'" in capsys.readouterr().err
    assert main(["train", "--resume", out, "--seed=4"]) == 2
    assert "training.seed was 0 and is now 4; order and noise" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("raised", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "runs/a/last.ckpt"), "runs/a/last.ckpt: the disk is full"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "a file: the disk is full"),
        (MemoryError(), "out of memory: MemoryError"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), "out of memory: CUDA out of memory"),
        (ValueError("a bug"), None),
        (RuntimeError("a bug"), None),
    ],
)
def test_a_full_disk_and_a_full_memory_are_one_line(raised, words):
    said = explain(raised)
    assert said is None if words is None else said.startswith(words)


def test_pytorchs_own_error_of_memory_is_known():
    with pytest.raises(RuntimeError) as raised:
        torch.empty(2**60, dtype=torch.uint8)
    assert explain(raised.value).startswith("out of memory: ")


@pytest.mark.parametrize(("raised", "code"), [(None, 0), (MemoryError(), 2), (KeyboardInterrupt(), 130)])
def test_exit_codes(raised, code, monkeypatch, capsys):
    def execute(options):
        if raised:
            raise raised

    monkeypatch.setattr(sample, "run", execute)
    assert main(["sample", "x"]) == code


def test_a_bug_shows_its_traceback_and_exits_with_1():
    code = "import sys; from feature_alignment.cli import sample, main; sample.run = lambda _: 1 / 0; main.main()"
    done = subprocess.run([sys.executable, "-c", code, "sample", "x"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr


def test_the_exit_codes_are_documented(capsys):
    said = " ".join(overview().format_help().split())
    assert "0 done; 1 a bug, with its traceback; 2 the request cannot be met, in one line; 128 + N stopped by" in said


@pytest.mark.parametrize("shell", completion.SHELLS)
def test_a_completion_has_every_command_and_option(shell, capsys):
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert all(name in script for name in COMMANDS)
    assert all(
        flag.lstrip("-") in script for flag in ("--model.refiner_filters", "--training.seed", "--inception-weights")
    )
    if shell == "bash":
        asked = f"{script}\nCOMP_WORDS=(falign train --model.lat)\nCOMP_CWORD=2\n_shtab_falign falign --model.lat train"
        done = subprocess.run(["bash"], input=f"{asked}\necho ${{COMPREPLY[@]}}", capture_output=True, text=True)
        assert done.stdout.split() == ["--model.latent"]


def on_a_terminal(*arguments, **environment):
    """Return what the command writes to a terminal."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "feature_alignment", *arguments]
    with subprocess.Popen(command, stdout=theirs, stderr=theirs, env=os.environ | environment) as process:
        os.close(theirs)
        said = b""
        while True:
            try:
                part = os.read(ours, 4096)
            except OSError:
                break
            said += part
            if not part:
                break
    os.close(ours)
    return process.returncode, said


def test_there_is_no_colour_even_on_a_terminal():
    for arguments, expected in ((["sample", "x", "--bogus"], 2), (["--help"], 0), (["sample", "nowhere"], 2)):
        status, said = on_a_terminal(*arguments, NO_COLOR="1")
        assert (status, b"\x1b" in said) == (expected, False)


def test_python_minus_m_is_the_command():
    done = falign("--version")
    assert (done.returncode, done.stdout.split()[0]) == (0, "falign")
