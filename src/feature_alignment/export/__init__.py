"""Sharing: parts of a model as files for other programs, and whole models on the Hugging Face Hub."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .parts import Part, parts_of
from .writing import FORMATS, Exported, ExportError, export

if TYPE_CHECKING:
    from .hub import HubModel, from_pretrained, push

__all__ = [
    "FORMATS",
    "ExportError",
    "Exported",
    "HubModel",
    "Part",
    "export",
    "from_pretrained",
    "parts_of",
    "push",
]


def __getattr__(name: str) -> Any:
    """Import the Hub's library only when a name that needs it is used."""
    if name in ("HubModel", "from_pretrained", "push"):
        from . import hub

        return getattr(hub, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
