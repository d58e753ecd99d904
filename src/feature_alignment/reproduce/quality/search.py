"""The search that every model gets: all learning rates with all activations, on training images alone."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

from .entries import Entry, Folder
from .settings import Method, Plan

__all__ = ["chosen", "finals", "grid", "searched"]


def grid(method: Method, plan: Plan) -> list[Entry]:
    """Return the trainings of a model's search."""
    search = plan.search
    updates = search.get("updates", plan.updates)
    return [
        Entry(method.name, search["latent"], search["seed"], updates, rate, activation, kind="search")
        for activation, rate in itertools.product(search["activation"], search["learning_rate"])
    ]


def finals(method: Method, plan: Plan, folder: Folder) -> list[Entry]:
    """Return the best of a finished search, to be trained for as many updates as the table: its second round.

    It sees what only a longer training shows, such as a rate at which it fails in the end (successive halving, Jamieson
    and Talwalkar 2016). Of a plan without finalists, or an unfinished search, there are none.
    """
    entries, values = grid(method, plan), searched(method, plan, folder)
    if not plan.finalists or len(values) < len(entries):
        return []
    ranked = sorted((each["value"], place) for place, each in enumerate(values) if each["value"] is not None)
    return [dataclasses.replace(entries[place], updates=plan.updates) for _, place in ranked[: plan.finalists]]


def searched(
    method: Method, plan: Plan, folder: Folder, entries: Sequence[Entry] | None = None
) -> list[dict[str, Any]]:
    """Return what is finished of ``entries``, by default of the grid: settings, and what the search minimises."""
    found = []
    for entry in grid(method, plan) if entries is None else entries:
        if folder.finished(entry.name):
            value = folder.read(entry.name)["criterion"]
            found.append({"activation": entry.activation, "learning_rate": entry.learning_rate, "value": value})
    return found


def chosen(method: Method, plan: Plan, folder: Folder) -> dict[str, Any] | None:
    """Return activation, learning rate and value of the best training of a model's search, of its last round.

    Returns:
        None if the search is not finished, or all of its trainings diverged.
    """
    entries = grid(method, plan)
    found = searched(method, plan, folder)
    if plan.finalists and len(found) == len(entries):
        entries = finals(method, plan, folder)
        found = searched(method, plan, folder, entries)
    if len(found) < len(entries):
        return None
    finite = [each for each in found if each["value"] is not None]
    return min(finite, key=lambda each: each["value"]) if finite else None
