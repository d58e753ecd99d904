"""``falign evaluate``."""

from __future__ import annotations

import json

import pytest

from feature_alignment.cli.main import main


def test_evaluate_repeats_the_measurement(run, capsys):
    assert main(["evaluate", str(run)]) == 0
    measured, first = (json.loads((run / name).read_text()) for name in ("evaluation.json", "metrics.json"))
    assert measured["classifier_fid"] == pytest.approx(first["classifier_fid"])
    assert measured["reconstruction_error"] == pytest.approx(first["reconstruction_error"])
    assert "reconstruction error" in capsys.readouterr().out
