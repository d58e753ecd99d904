"""How a network is evaluated where nothing is differentiated: as it is where something is."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from ..structures import Network, Structure, standard
from .exported import any_batch
from .workarounds import without_fast_path

__all__ = ["evaluation"]


def evaluation(network: Network) -> Callable[[Tensor], Structure]:
    """Return how to evaluate a network without a change to its input, its output standardised.

    Transformers do not take their fast path, which puts zeros where a padding mask hides, as no evaluation does with
    gradients.
    """
    whole = any_batch(network)

    def evaluate(points: Tensor) -> Structure:
        with without_fast_path():
            return standard(whole(points.clone()))  # it may work in place

    return evaluate
