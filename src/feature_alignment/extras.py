"""Optional requirements: imported where they are used, and named in one line where they are missing."""

from __future__ import annotations

import importlib
from types import ModuleType

__all__ = ["MissingExtra", "require"]


class MissingExtra(ImportError):  # noqa: N818 (it names what is missing)
    """An optional requirement that is not installed; the message is one line for the user."""


def require(module: str, extra: str, for_what: str) -> ModuleType:
    """Import and return an optional module.

    Args:
        module: its import name, such as ``datasets`` or ``matplotlib.figure``.
        extra: the extra of this package that installs it.
        for_what: the feature that needs it, as the user knows it; begins the message.

    Raises:
        MissingExtra: the module, or one that it imports, is not installed.

    Example:
        >>> require("json", "train", "reports").dumps([1])
        '[1]'
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        missing = (error.name or module).partition(".")[0]
        raise MissingExtra(f"{for_what}: needs {missing}: pip install 'feature-alignment[{extra}]'") from error
