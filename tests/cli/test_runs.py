"""Classes by name: exactly as written, then without regard to case, then by number."""

from __future__ import annotations

import shutil
import unicodedata
from types import SimpleNamespace

import pytest

from feature_alignment.cli.errors import UsageError
from feature_alignment.cli.main import main
from feature_alignment.cli.runs import labels_of
from feature_alignment.models import Model


def labels(names, *wanted):
    return labels_of(SimpleNamespace(classes=len(names), class_names=tuple(names)), list(wanted)).tolist()


def test_the_exact_name_comes_first():
    assert labels(["A", "a", "B"], "a", "A", "b") == [1, 0, 2]
    assert labels(["1", "0"], "0", "1") == [1, 0]
    assert labels(["cat", "dog"], "1") == [1]
    with pytest.raises(UsageError, match="class 'straße': which, STRASSE or Straße"):
        labels(["STRASSE", "Straße"], "straße")


def test_composed_and_decomposed_letters_are_the_same():
    composed, decomposed = (unicodedata.normalize(form, "Übung") for form in ("NFC", "NFD"))
    assert composed != decomposed
    assert labels([decomposed, "x"], composed) == labels([composed, "x"], decomposed) == [0]


def test_names_are_the_models_own_wherever_the_images_went(run, tmp_path, capsys):
    shutil.copytree(run, tmp_path / "run")
    model = Model.from_pretrained(run)
    model.class_names = tuple("abcdefghij")
    model.save_pretrained(tmp_path / "run")
    (tmp_path / "run" / "config.yaml").unlink()  # nothing is asked of the data set
    sample = ["sample", str(tmp_path / "run"), "--rows=1", f"--out={tmp_path / 'sample.png'}"]
    assert main([*sample, "--classes", "c", "j"]) == 0
    assert main([*sample, "--classes", "k"]) == 2
    assert "class 'k': expected one of a, b, c" in capsys.readouterr().err
    shutil.copy(run / "config.yaml", tmp_path / "run" / "config.yaml")
    assert main(["evaluate", str(tmp_path / "run")]) == 2
    assert "has the classes 0, 1, 2" in capsys.readouterr().err
