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
from feature_alignment.cli.errors import EXTRAS, explain

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
IMPORT_ALL = """
import importlib, pkgutil
import feature_alignment
assert not {"torch", "numpy"} & {*sys.modules}
assert {*feature_alignment.__all__} <= {*dir(feature_alignment)}
for room in ("core", "models"):
    folder = importlib.import_module(f"feature_alignment.{room}")
    for found in pkgutil.walk_packages(folder.__path__, folder.__name__ + "."):
        importlib.import_module(found.name)
from feature_alignment import *
assert align.__module__.startswith("feature_alignment.core")
"""
COMMANDS_RUN = """
from feature_alignment.cli.main import main
for arguments in {commands!r}:
    print(main(arguments))
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


def test_the_library_proper_needs_torch_numpy_and_safetensors_only_and_imports_them_when_used():
    done = python(IMPORT_ALL, OPTIONAL)
    assert done.returncode == 0, done.stderr


def test_the_blocking_blocks():
    assert "No module named 'yaml'" in python("import yaml", OPTIONAL).stderr


def test_every_public_name_can_be_imported_and_no_other():
    assert all(getattr(feature_alignment, name) for name in feature_alignment.__all__)
    with pytest.raises(AttributeError, match="module 'feature_alignment' has no attribute 'nothing'"):
        _ = feature_alignment.nothing


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], *([name, "--help"] for name in COMMANDS)])
def test_help_comes_before_what_is_heavy(arguments):
    if arguments[0] in ("train", "reproduce"):
        pytest.skip("these two state what they found in the package")
    done = python(COMMANDS_RUN.format(commands=[arguments]), {"torch", "numpy", *OPTIONAL})
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(("usage: falign", "falign "))


def test_commands_without_their_modules_say_in_one_line_which_extra_installs_them():
    missing = {"jsonargparse", "lightning_fabric", "matplotlib", "yaml"}
    commands = [["train", "--model", "VFA"], ["quickstart"]]
    done = python(COMMANDS_RUN.format(commands=commands), missing)
    assert done.stdout.split() == ["2", "2"], done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == len(commands)
    for line in lines:
        said, _, remedy = line.removeprefix("falign: error: ").partition(": pip install ")
        assert said.rpartition(" ")[2] in missing
        assert remedy == "'feature-alignment[train]'"


@pytest.mark.parametrize(("module", "extra"), EXTRAS.items())
def test_a_missing_module_is_explained_by_its_extra(module, extra):
    line = explain(ModuleNotFoundError("No module", name=f"{module}.part"))
    assert line == f"this needs {module}: pip install 'feature-alignment[{extra}]'"
    assert explain(ModuleNotFoundError("No module", name="feature_alignment.nothing")) is None


def test_the_extras_named_are_those_that_pyproject_has():
    stated = extras()
    # These two come with pytorch-lightning and with jsonargparse[signatures].
    brought = {"lightning_fabric": "pytorch_lightning", "docstring_parser": "jsonargparse"}
    for module, extra in EXTRAS.items():
        assert brought.get(module, module) in stated[extra], module


#: The rooms that each room may import, besides itself and the files beside the rooms.
BELOW = {
    "core": set(),
    "samplers": set(),
    "models": {"core", "samplers"},
    "data": set(),
    "metrics": {"core", "data", "models"},
    "networks": {"core", "data", "models"},
    "explorer": {"core", "data", "models", "networks", "samplers"},
    "training": {"core", "data", "models"},
    "report": {"core", "data", "metrics", "models", "training"},
    "export": {"core", "data", "metrics", "models", "report", "training"},
    "reproduce": {"core", "data", "metrics", "models", "report", "samplers", "training"},
    "cli": {
        *("core", "data", "explorer", "export", "metrics", "models", "networks", "report", "reproduce", "samplers"),
        "training",
    },
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
