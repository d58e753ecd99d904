"""Where the tests of data sets put their files."""

from __future__ import annotations

import datasets
import pytest

from feature_alignment.data.sets import fashion_mnist


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Where the files of named sets are looked for; a cache of the test's own; no Hub."""

    def offline(name):
        raise ConnectionError("Couldn't reach the Hub\nand a long story")

    monkeypatch.setenv("FALIGN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("FALIGN_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(fashion_mnist, "DEBIAN", tmp_path / "absent")
    monkeypatch.setattr(datasets, "load_dataset", offline)
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


@pytest.fixture
def parquet(tmp_path, monkeypatch):
    """A folder for parquet files, read by load_dataset itself, and a cache of the test's own."""
    monkeypatch.setenv("FALIGN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf")
    folder = tmp_path / "repository"
    folder.mkdir()
    return folder
