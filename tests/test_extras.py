"""Optional requirements: returned where they are there, named with their extra where they are not."""

from __future__ import annotations

import json.decoder
import sys

import pytest

from feature_alignment.extras import MissingExtra, require


def test_what_is_installed_is_returned():
    assert require("json.decoder", "train", "reports") is json.decoder


@pytest.mark.parametrize("module", ["absent_here", "absent_here.part"])
def test_what_is_missing_is_named_with_the_command_that_installs_it(module):
    with pytest.raises(MissingExtra, match=r"^pictures: needs absent_here: pip install 'feature-alignment\[train\]'$"):
        require(module, "train", "pictures")
    assert issubclass(MissingExtra, ImportError)


def test_a_requirement_of_the_requirement_is_named_too(tmp_path, monkeypatch):
    (tmp_path / "present_here.py").write_text("import absent_here")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(MissingExtra, match="pictures: needs absent_here: "):
        require("present_here", "train", "pictures")
    assert "present_here" not in sys.modules
