"""The sections of a configuration: ``data``, ``training`` and ``model``."""

from __future__ import annotations

from typing import Any

__all__ = ["fault_of"]


def fault_of(found: Any) -> str:
    """Return what is wrong with the form of a configuration, in one line; nothing if it has one.

    Example:
        >>> fault_of({"data": {"name": "mnist"}}), fault_of({"data": 3})
        ('', 'data: expected options and their values, got 3')
    """
    if not isinstance(found, dict):
        return f"expected the sections data, training and model, got {_one_line(found)}"
    for section, values in found.items():
        if section not in ("data", "training", "model", "out"):
            return f"unknown section {section!r}; expected data, training or model"
        if section == "out" and not isinstance(values, str):
            return f"out: expected a directory, got {_one_line(values)}"
        if section != "out" and not isinstance(values, dict):
            return f"{section}: expected options and their values, got {_one_line(values)}"
        if section != "out" and (odd := next((key for key in values if not isinstance(key, str)), None)) is not None:
            return f"{section}: expected the name of an option, got {_one_line(odd)}"
    model = found.get("model", {"class_path": ""})
    if not isinstance(model.get("class_path"), str) or not isinstance(model.get("init_args", {}), dict):
        return "model: expected class_path, a name, and init_args, options and their values"
    return ""


def _one_line(value: object) -> str:
    return " ".join(str(value).split())
