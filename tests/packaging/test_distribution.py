"""The wheel and the source archive: built, installed into empty environments, and at work there.

These environments see torch, numpy and safetensors as installed here, with all that they require and nothing else, so
that nothing large is downloaded: ``pip check`` says whether every requirement of the package is met.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import zipfile
from email.parser import HeaderParser
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import feature_alignment

ROOT = Path(__file__).parents[2]
SMOKE = Path(__file__).with_name("smoke.py")

pytestmark = pytest.mark.slow


def checked(*command, cwd):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        [*map(str, command)], capture_output=True, text=True, check=False, cwd=cwd, env=environment
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The source archive, and the wheel built from it, of the files that git knows."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    names = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split(
        "\n"
    )
    if not any(names):
        pytest.skip("not a git repository")
    for name in filter(None, names):
        if (ROOT / name).is_file():  # one deleted and not committed yet is not there
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    checked(sys.executable, "-m", "build", "--outdir", out, source, cwd=out)
    (wheel,), (archive,) = out.glob("*.whl"), out.glob("*.tar.gz")
    return wheel, archive


def required_by(requirement, found):
    """Collect a distribution and all that it requires here."""
    try:
        there = distribution(requirement.name)
    except PackageNotFoundError:
        return
    if (there.metadata["Name"], str(requirement)) in found:
        return
    found[there.metadata["Name"], str(requirement)] = there
    for further in map(Requirement, there.requires or ()):
        if further.marker is None or any(
            further.marker.evaluate({"extra": each}) for each in {"", *requirement.extras}
        ):
            required_by(further, found)


def link(there: Distribution, folder: Path):
    """Link the top-level files and folders of a distribution."""
    for name in {file.parts[0] for file in there.files or ()} - {"..", "__pycache__"}:
        origin = Path(str(there.locate_file(name)))
        if origin.exists() and not (folder / name).exists():
            (folder / name).symlink_to(origin)


@pytest.fixture(scope="module")
def requirements(tmp_path_factory):
    """A folder of links to what the package requires."""
    folder, found = tmp_path_factory.mktemp("requirements"), {}
    for name in ("torch", "numpy", "safetensors"):
        required_by(Requirement(name), found)
    for there in found.values():
        link(there, folder)
    return folder


def environment(folder, requirements):
    """Make an empty environment that sees the links; return its Python.

    They are outside of it: whatever pip installs there cannot be written through a link.
    """
    checked(sys.executable, "-m", "venv", folder, cwd=folder.parent)
    python = folder / "bin" / "python"
    checked(python, "-m", "pip", "uninstall", "--yes", "setuptools", cwd=folder)  # older than torch allows
    packages = Path(checked(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip())
    (packages / "requirements.pth").write_text(f"{requirements}\n")
    return python


@pytest.mark.parametrize("kind", ["wheel", "source"])
def test_it_works_where_only_its_requirements_are_installed(kind, built, requirements, tmp_path):
    python = environment(tmp_path / "env", requirements)
    checked(python, "-m", "pip", "install", "--no-deps", built[("wheel", "source").index(kind)], cwd=tmp_path)
    checked(python, "-m", "pip", "check", cwd=tmp_path)
    assert "jsonargparse" not in checked(python, "-m", "pip", "list", cwd=tmp_path)
    assert feature_alignment.__version__ in checked(python, SMOKE, cwd=tmp_path)
    assert checked(tmp_path / "env" / "bin" / "falign", "--help", cwd=tmp_path).startswith("usage: falign")


def test_the_wheel_has_the_package_with_its_data_and_nothing_else(built):
    names = zipfile.ZipFile(built[0]).namelist()
    package = {name.removeprefix("feature_alignment/") for name in names if name.startswith("feature_alignment/")}
    source = ROOT / "src" / "feature_alignment"
    expected = {
        path.relative_to(source).as_posix()
        for path in source.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert package == expected
    assert all(name.split("/")[0].endswith(".dist-info") for name in names if not name.startswith("feature_alignment/"))


def test_the_metadata_say_what_it_is(built):
    archive = zipfile.ZipFile(built[0])
    (name,) = (each for each in archive.namelist() if each.endswith("METADATA"))
    metadata = HeaderParser().parsestr(archive.read(name).decode())
    assert metadata["Version"] == feature_alignment.__version__
    assert {each.partition(">")[0] for each in metadata.get_all("Requires-Dist") if "extra" not in each} == {
        "torch", "numpy", "safetensors"
    }  # fmt: skip
    assert f"version: {feature_alignment.__version__}\n" in (ROOT / "CITATION.cff").read_text()


def test_the_source_archive_has_what_a_build_needs_and_small_files_only(built):
    with tarfile.open(built[1]) as archive:
        members = {member.name.partition("/")[2]: member.size for member in archive.getmembers()}
    assert {"pyproject.toml", "LICENSE", "README.md", "src/feature_alignment/configs/paper/fa.yaml"} <= {*members}
    assert sum(members.values()) < 3_000_000
