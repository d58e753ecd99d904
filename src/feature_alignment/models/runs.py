"""The model of a run, with the classes and modules of the user's own that its configuration names."""

from __future__ import annotations

import pkgutil
from pathlib import Path
from typing import Any

from torch import nn

from ..files import read_yaml
from .model import Model

__all__ = ["model_of_run"]


def model_of_run(directory: Path) -> Model:
    """Load the model in a directory, in eval mode; what its ``config.yaml`` names of the user's own code is imported.

    Args:
        directory: of a run, or any that :meth:`Model.save_pretrained` has written into.

    Raises:
        FileNotFoundError, ValueError: as for :meth:`Model.from_pretrained`; a class that cannot be imported or called.
    """
    config = directory / "config.yaml"
    try:
        found: Any = read_yaml(config) if config.is_file() else {}
    except (ValueError, ImportError):  # the model itself is in the other files; PyYAML is an extra's
        found = {}
    model = found.get("model") if isinstance(found, dict) else None
    if not isinstance(model, dict):
        return Model.from_pretrained(directory)
    path = model.get("class_path")
    if isinstance(path, str) and "." in path:  # importing it makes the class known
        _imported(f"{config}: model.class_path", path)
    given = model.get("init_args")
    modules = given.items() if isinstance(given, dict) else ()
    own = {name: _built(f"{config}: model.{name}", each) for name, each in modules if _names_a_class(each)}
    return Model.from_pretrained(directory, **own)


def _built(where: str, value: Any) -> Any:
    """Return the module that a configuration's value stands for, or the value itself."""
    if not _names_a_class(value):
        return value
    path, arguments = value["class_path"], value.get("init_args") or {}
    kind = _imported(where, path)
    if not (isinstance(kind, type) and issubclass(kind, nn.Module)):  # anything else is not called
        raise ValueError(f"{where}: expected a class of modules, got {path}")
    try:
        return kind(**{name: _built(where, each) for name, each in arguments.items()})
    except Exception as error:  # code of the user's
        raise ValueError(f"{where}: {path} fails: {error}") from None


def _imported(where: str, path: str) -> Any:
    try:
        return pkgutil.resolve_name(path)
    except Exception as error:  # code of the user's
        raise ValueError(f"{where}: {path} cannot be imported: {error}") from None


def _names_a_class(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("class_path"), str)
