"""What each room may import: of optional modules, of heavy ones, and of the other rooms."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import feature_alignment
from feature_alignment.cli.commands import COMMANDS
from feature_alignment.cli.errors import EXTRAS

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "feature_alignment"
REQUIRED = {"torch", "numpy", "safetensors"}
#: Distributions that are imported by another name than their own.
IMPORTED_AS = {"pillow": "PIL", "pyyaml": "yaml", "scikit-learn": "sklearn"}

BLOCK = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Blocked())
"""
IMPORT_ROOM = """
import importlib, pkgutil
room = importlib.import_module("feature_alignment.{room}")
for found in pkgutil.walk_packages(room.__path__, room.__name__ + "."):
    importlib.import_module(found.name)
"""
COMMAND = """
from feature_alignment.cli.main import main
sys.exit(main({arguments!r}))
"""


def python(code, blocked=()):
    """Run code in an interpreter of its own, in which the ``blocked`` modules are not there."""
    return subprocess.run(
        [sys.executable, "-c", BLOCK.format(blocked=set(blocked)) + code],
        capture_output=True, text=True, check=False, cwd=ROOT / "tests",
    )  # fmt: skip


def extras():
    """Return the modules that each extra installs, by the requirements of pyproject.toml."""
    stated = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    names = {
        extra: [each.partition(">=")[0].partition("[")[0].lower() for each in found] for extra, found in stated.items()
    }
    return {extra: {IMPORTED_AS.get(name, name.replace("-", "_")) for name in found} for extra, found in names.items()}


OPTIONAL = {*EXTRAS, *(module for found in extras().values() for module in found)} - REQUIRED - {"feature_alignment"}


@pytest.mark.parametrize("room", ["core", "models"])
def test_the_library_proper_needs_torch_numpy_and_safetensors_only(room):
    done = python(IMPORT_ROOM.format(room=room), OPTIONAL)
    assert done.returncode == 0, done.stderr


def test_the_blocking_blocks():
    done = python("import yaml", OPTIONAL)
    assert "No module named 'yaml'" in done.stderr


def test_importing_the_package_costs_nothing_and_its_names_are_there():
    done = python(
        "import feature_alignment; assert not {'torch', 'numpy'} & {*sys.modules}\n"
        "assert {*feature_alignment.__all__} <= {*dir(feature_alignment)}\n"
        "from feature_alignment import *\n"
        "assert align.__module__.startswith('feature_alignment.core')",
        OPTIONAL,
    )
    assert done.returncode == 0, done.stderr


def test_every_public_name_can_be_imported_and_no_other():
    assert all(getattr(feature_alignment, name) for name in feature_alignment.__all__)
    with pytest.raises(AttributeError, match="module 'feature_alignment' has no attribute 'nothing'"):
        _ = feature_alignment.nothing


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], *([name, "--help"] for name in COMMANDS)])
def test_help_comes_before_what_is_heavy(arguments):
    if arguments[0] in ("train", "reproduce"):
        pytest.skip("these two state what they found in the package")
    done = python(COMMAND.format(arguments=arguments), {"torch", "numpy", *OPTIONAL})
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(("usage: falign", "falign "))


@pytest.mark.parametrize(
    ("missing", "arguments", "extra"),
    [
        ("jsonargparse", ["train", "--help"], "train"),
        ("yaml", ["train", "--config", "quickstart"], "train"),
        ("lightning_fabric", ["quickstart"], "train"),
        ("matplotlib", ["sample", "."], "train"),
        ("torchmetrics", ["evaluate", "."], "train"),
    ],
)
def test_a_command_without_its_modules_says_in_one_line_which_extra_installs_them(missing, arguments, extra):
    done = python(COMMAND.format(arguments=arguments), {missing})
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("falign: error: ")
    assert missing in line
    assert f"pip install 'feature-alignment[{extra}]'" in line


def test_the_extras_named_are_those_that_pyproject_has():
    stated = extras()
    # These two come with pytorch-lightning and with jsonargparse[signatures].
    brought = {"lightning_fabric": "pytorch_lightning", "docstring_parser": "jsonargparse"}
    for module, extra in EXTRAS.items():
        assert brought.get(module, module) in stated[extra], module


#: The rooms that each room may import, besides itself and the files beside the rooms.
BELOW = {
    "core": set(),
    "models": {"core"},
    "data": set(),
    "metrics": {"core", "data", "models"},
    "training": {"core", "data", "models"},
    "report": {"core", "data", "metrics", "models", "training"},
    "reproduce": {"core", "data", "metrics", "models", "report", "training"},
    "cli": {"core", "data", "metrics", "models", "report", "reproduce", "training"},
}


def rooms_imported(file):
    """Return the rooms that a file imports from, wherever in it."""
    here = file.relative_to(PACKAGE.parent).with_suffix("").parts
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = [*here[: len(here) - node.level], *(node.module or "").split(".")]
            yield from ([base[1]] if base[1:2] != [""] and len(base) > 1 else [each.name for each in node.names])
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("feature_alignment."):
            yield node.module.split(".")[1]


@pytest.mark.parametrize("room", BELOW)
def test_imports_point_down(room):
    for file in (PACKAGE / room).rglob("*.py"):
        found = {each for each in rooms_imported(file) if (PACKAGE / each).is_dir()}
        assert found <= BELOW[room] | {room}, file
