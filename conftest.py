"""What the examples in docstrings may use without importing it, and where they may write."""

from __future__ import annotations

import pytest
import torch
from torch import nn


@pytest.fixture(autouse=True)
def surroundings(request, doctest_namespace, tmp_path_factory, monkeypatch):
    """Run an example in a folder of its own, with ``torch`` and ``nn`` at hand and the same random numbers."""
    doctest_namespace.update(torch=torch, nn=nn)
    if isinstance(request.node, pytest.DoctestItem):
        monkeypatch.chdir(tmp_path_factory.mktemp("example"))
        monkeypatch.setenv("FALIGN_CACHE", str(tmp_path_factory.getbasetemp() / "examples-cache"))
        torch.manual_seed(0)
