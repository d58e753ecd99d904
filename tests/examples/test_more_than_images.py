"""The examples of a table, a time series and a text: few updates already beat principal components."""

import runpy
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.parametrize(("name", "updates"), [("table", 250), ("time_series", 80)])
def test_rows_and_windows_are_reconstructed_better_than_by_principal_components(name, updates, capsys):
    errors = runpy.run_path(str(EXAMPLES / f"{name}.py"))["main"](updates)
    mean, linear, _, aligned = errors.values()
    assert aligned < linear < mean
    assert "gained on principal components" in capsys.readouterr().out


def test_characters_are_recovered_more_often_than_by_principal_components(capsys):
    right = runpy.run_path(str(EXAMPLES / "text.py"))["main"](120)
    assert right["aligned"] > right["principal components"] > right["the most frequent character"]
    assert "' -> '" in capsys.readouterr().out
