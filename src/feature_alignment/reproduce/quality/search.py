"""The search that every model gets: all learning rates with all activations, on training images alone."""

from __future__ import annotations

import itertools
from typing import Any

from .entries import Entry, Folder
from .settings import Method, Plan

__all__ = ["chosen", "grid", "searched"]


def grid(method: Method, plan: Plan) -> list[Entry]:
    """Return the trainings of a model's search."""
    search = plan.search
    updates = search.get("updates", plan.updates)
    return [
        Entry(method.name, search["latent"], search["seed"], updates, rate, activation, kind="search")
        for activation, rate in itertools.product(search["activation"], search["learning_rate"])
    ]


def searched(method: Method, plan: Plan, folder: Folder) -> list[dict[str, Any]]:
    """Return the grid of a model as far as it is finished: its settings and what the search minimises."""
    found = []
    for entry in grid(method, plan):
        if folder.finished(entry.name):
            value = folder.read(entry.name)["criterion"]
            found.append({"activation": entry.activation, "learning_rate": entry.learning_rate, "value": value})
    return found


def chosen(method: Method, plan: Plan, folder: Folder) -> dict[str, Any] | None:
    """Return activation, learning rate and value of the best training of a model's search.

    Returns:
        None if the search is not finished, or all of its trainings diverged.
    """
    found = searched(method, plan, folder)
    if len(found) < len(grid(method, plan)):
        return None
    finite = [each for each in found if each["value"] is not None]
    return min(finite, key=lambda each: each["value"]) if finite else None
