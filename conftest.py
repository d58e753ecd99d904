"""What the examples in docstrings may use without importing it, and where they may write."""

from __future__ import annotations

import os

import pytest
import torch
from torch import nn


@pytest.fixture(autouse=True)
def surroundings(request, doctest_namespace, tmp_path_factory, monkeypatch):
    """Run an example with ``torch``, ``nn`` and an empty ``folder`` at hand, and the same random numbers every time."""
    if not isinstance(request.node, pytest.DoctestItem):
        return
    folder = tmp_path_factory.mktemp("example")
    doctest_namespace.update(torch=torch, nn=nn, folder=folder)
    monkeypatch.chdir(folder)
    cache = tmp_path_factory.getbasetemp() / "examples-cache"
    if not os.environ.get("FALIGN_CACHE", "").startswith(str(cache.parent)):  # the other tests' will do
        monkeypatch.setenv("FALIGN_CACHE", str(cache))
    torch.manual_seed(0)
