"""Configurations of trainings, with the sections ``data``, ``training`` and ``model``: reading and writing YAML."""

from __future__ import annotations

import json
import pkgutil
import warnings
from argparse import Namespace
from enum import Enum
from pathlib import Path
from typing import Any, TypeGuard

import yaml

from .. import models
from ..files import read_yaml, user_path
from ..training.sections import fault_of
from .errors import UsageError
from .parser import nearest

__all__ = [
    "CONFIGS", "Configuration", "bundled", "class_of", "combined", "for_class", "model_names", "read",
    "to_yaml",
]  # fmt: skip

#: Folder of the bundled configurations.
CONFIGS = Path(__file__).parents[1] / "configs"

#: Sections with their values, and ``out``; the section ``model`` has ``class_path`` and ``init_args``.
Configuration = dict[str, Any]


def bundled() -> list[str]:
    """Return the names of the bundled configurations."""
    found = (path.relative_to(CONFIGS).with_suffix("").as_posix() for path in CONFIGS.rglob("*.yaml"))
    return sorted(name for name in found if not name.startswith("quality/"))  # those are of `falign reproduce quality`


def read(name: str) -> Configuration:
    """Read a configuration from a YAML file, or a bundled one by its name; ``cifar10`` also finds ``paper/cifar10``.

    Raises:
        UsageError: there is no such file, or it has other sections than ``data``, ``training`` and ``model``.
    """
    stem = name.removesuffix(".yaml")
    found = [user_path(name), CONFIGS / f"{stem}.yaml", CONFIGS / "paper" / f"{stem}.yaml"]
    path = next((each for each in found if each.is_file()), None)
    if path is None:
        known = ", ".join(bundled())
        hint = nearest(name, bundled())
        raise UsageError(f"--config {name}: no such file, nor one of the bundled configurations: {known}{hint}")
    try:
        sections = read_yaml(path) or {}
    except ValueError as error:
        raise UsageError(f"--config {name}: not YAML: {error}") from None
    if fault := fault_of(sections):
        raise UsageError(f"--config {name}: {fault}")
    return dict(sections)


def combined(first: Configuration, second: Configuration) -> Configuration:
    """Merge two configurations: values of the ``second`` take precedence, and its model if it is of another class."""
    found = {**first, **second}
    for section in ("data", "training"):
        found[section] = {**first.get(section, {}), **second.get(section, {})}
    if "model" in first and "model" in second:
        replaced, given = first["model"].get("init_args", {}), second["model"].get("init_args", {})
        kinds = [class_of(each["model"]["class_path"]) for each in (first, second)]
        if kinds[0] is kinds[1]:
            found["model"] = {**second["model"], "init_args": {**replaced, **given}}
        elif replaced:
            names = (kinds[1].__name__, kinds[0].__name__)
            warnings.warn("the second configuration's {} replaces the first's {}".format(*names), stacklevel=2)
    return found


def model_names() -> list[str]:
    """Return the names of the bundled models."""
    return [each.__name__ for each in vars(models).values() if _is_model(each) and each is not models.Model]


def class_of(name: str) -> type[models.Model]:
    """Return a model's class by its name, ignoring case, hyphens and underscores, or by its import path.

    Raises:
        UsageError: there is no such class, or it is not a model.
    """
    if "." in name:
        return _imported(name)
    known: dict[str, type[models.Model]] = {name: getattr(models, name) for name in model_names()}
    for kind in known.values():
        if kind.__name__.lower() == name.lower().replace("-", "").replace("_", ""):
            return kind
    hint = nearest(name, known)
    raise UsageError(f"--model {name}: unknown model; expected one of {', '.join(known)}{hint}")


def _imported(path: str) -> type[models.Model]:
    try:
        found: object = pkgutil.resolve_name(path)
    except (ImportError, AttributeError, ValueError) as error:
        raise UsageError(f"--model {path}: cannot be imported: {error}") from None
    if not _is_model(found):
        raise UsageError(f"--model {path}: expected a subclass of feature_alignment.models.Model")
    return found


def _is_model(found: object) -> TypeGuard[type[models.Model]]:
    return isinstance(found, type) and issubclass(found, models.Model)


def for_class(model: dict[str, Any], kind: type[models.Model], options: list[str]) -> dict[str, Any]:
    """Return those options of a configuration's ``model`` that the class ``kind`` has; warn of the others."""
    given = model.get("init_args", {})
    if class_of(model["class_path"]) is kind:
        return dict(given)
    lost = [option for option in given if option not in options]
    if lost:
        warnings.warn(f"{kind.__name__} has no {', '.join(lost)}: left out of the configuration", stacklevel=2)
    return {option: value for option, value in given.items() if option in options}


def to_yaml(kind: type[models.Model], options: Namespace) -> str:
    """Return the YAML of a configuration with these options, given as sections of a namespace."""
    bundled = getattr(models, kind.__name__, None) is kind
    path = f"{models.__name__}.{kind.__name__}" if bundled else f"{kind.__module__}.{kind.__qualname__}"
    values = {name: getattr(options, name).as_dict() for name in ("data", "training", "model")}
    # JSON turns tuples into lists; YAML would tag them as Python objects.
    sections = json.loads(json.dumps(values, default=_written))
    sections["model"] = {"class_path": path, "init_args": sections["model"]}
    return yaml.safe_dump(sections, sort_keys=False)


def _written(value: object) -> str:
    return value.name if isinstance(value, Enum) else str(value)
