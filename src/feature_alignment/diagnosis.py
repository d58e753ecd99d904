"""The reversibility report: what each layer of a network keeps of images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .core.checks import Network, check_finite, refuse_batch_statistics, refuse_inference, refuse_quantised
from .core.diagnosis import Layer, Options, diagnose_layer, find_layers, part_of
from .core.inversion import Bounded, Natural
from .core.inversion.variables import as_variables
from .progress import Progress

__all__ = ["Diagnosis", "diagnose"]

#: The measurements of a layer, for progress.
PARTS = ("pre-images", "Jacobian", "activations")
#: Name of the network itself among its layers.
WHOLE = "output"


@dataclass(frozen=True)
class Diagnosis:
    """What :func:`diagnose` returns: an entry a layer, in the order of depth.

    Attributes:
        name: of the network.
        images: those that were measured, shape ``(N, ...)``.
        layers: one entry a layer.
        options: with which they were measured.
    """

    name: str
    images: Tensor
    layers: tuple[Layer, ...]
    options: Options

    def __len__(self) -> int:
        return len(self.layers)

    def __iter__(self) -> Iterator[Layer]:
        return iter(self.layers)

    def __getitem__(self, name: int | str) -> Layer:
        """Return a layer by its place or its name, ``""`` or ``output`` of the network itself.

        Raises:
            IndexError, KeyError: there is none.
        """
        if isinstance(name, int):
            return self.layers[name]
        return {layer.name: layer for layer in self.layers}[name or WHOLE]

    def save(self, directory: str | Path, against: Diagnosis | None = None) -> None:
        """Write ``report.html``, ``layers.json``, ``information.png`` and, for images, ``strips.png``.

        Args:
            directory: created if it is missing.
            against: a second network, shown beside this one; its entries go to ``against.json``.

        Raises:
            MissingExtra: without the extra ``[train]``.
            ValueError: ``against`` was measured with other images.
        """
        from .report.diagnosis import write_diagnosis

        write_diagnosis(self, Path(directory), against)


def diagnose(
    network: Network,
    images: Tensor,
    layers: str | Sequence[str] | None = None,
    *,
    name: str | None = None,
    start: Tensor | None = None,
    options: Options | None = None,
    progress: bool = False,
    after_each: Callable[[Diagnosis], None] | None = None,
    **changes: Any,
) -> Diagnosis:
    r"""Measure what each layer of a network keeps of images, by the way back from its output.

    Args:
        network: any network, in eval mode; for variables of images between 0 and 1 the normalisation of pixels is a
            part of it.
        images: shape ``(N, ...)``, in [0, 1] for ``natural`` and ``bounded`` variables; a few are enough.
        layers: names as in :meth:`torch.nn.Module.named_modules` (``""`` is the network itself), ``all`` for every
            module that is called, or none for up to 12 depths, chosen by :func:`find_layers`.
        name: of the network in the report; by default that of its class.
        start: where pre-images are sought from, shape ``(1, ...)``; by default that of the variables, if they have one,
            otherwise grey, 0.5.
        options: how to measure; by default :class:`Options`, whose fields can also be given one by one:
            ``variables``, ``tol``, ``max_evaluations``, ``probes``, ``batch_size``, ``seed``.
        progress: show it on the standard error stream.
        after_each: called after each layer with what there is, for instance to save it: if it takes too long, it can be
            interrupted and nothing is lost.

    Returns:
        A :class:`Diagnosis`. What its numbers mean, and what they cost, is in ``docs/diagnosis.md``.

    Raises:
        TypeError, ValueError: images that are no finite floating-point tensor, or out of range; a layer that the
            network does not have (the nearest are named); and as for :func:`~feature_alignment.invert`.

    Example:
        >>> network = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.Tanh(), nn.Linear(16, 2))
        >>> found = diagnose(network, torch.rand(4, 1, 8, 8), max_evaluations=50)
        >>> [(layer.name, layer.size) for layer in found]
        [('2', 16), ('3', 2)]
    """
    chosen = options or Options()
    if changes:
        chosen = Options(**{**vars(chosen), **changes})
    _check(network, images, chosen)
    if start is None and getattr(chosen.variables, "start", None) is None:
        start = torch.full_like(images[:1], 0.5)
    names = _names(network, images, layers)
    found = Diagnosis(name or type(network).__name__, images, (), chosen)
    with Progress("diagnosing", len(names) * len(PARTS), unit="step", shown=progress) as bar:
        for place, layer in enumerate(names):
            title = layer or WHOLE

            def tell(part: str, place: int = place, title: str = title) -> None:
                bar.said = f"{title}: {part}"
                bar.update(place * len(PARTS) + PARTS.index(part))

            entry = _measured(part_of(network, layer), title, images, start, chosen, tell)
            found = Diagnosis(found.name, images, (*found.layers, entry), chosen)
            if after_each is not None:
                after_each(found)
        bar.said = ""
        bar.update(len(names) * len(PARTS))
    return found


def _measured(network: Network, title: str, *arguments: Any) -> Layer:
    """Measure a layer; an error says which."""
    try:
        return diagnose_layer(network, title, *arguments)
    except (TypeError, ValueError) as error:
        raise type(error)(f"layer {title!r}: {error}") from error


def _check(network: Network, images: Tensor, options: Options) -> None:
    if not callable(network):
        raise TypeError(f"network: expected a module or a function, got {type(network).__name__}")
    if isinstance(network, nn.Module):
        refuse_batch_statistics(network)
        refuse_quantised(network)
        refuse_inference(network)
    if not isinstance(images, Tensor) or not images.is_floating_point():
        kind = images.dtype if isinstance(images, Tensor) else type(images).__name__
        raise TypeError(f"images: expected a floating-point tensor, got {kind}")
    if images.ndim < 2 or not len(images):
        raise ValueError(f"images: expected shape (N, ...), N at least 1, got {tuple(images.shape)}")
    check_finite("images", images)
    bounded = isinstance(as_variables(options.variables), Natural | Bounded)
    if bounded and not bool(((images >= 0) & (images <= 1)).all()):
        raise ValueError(
            f"images: expected values in [0, 1], got {float(images.min()):.3g} to {float(images.max()):.3g}; the "
            "normalisation of pixels belongs to the network, or take variables='pixels'"
        )


def _names(network: Network, images: Tensor, layers: str | Sequence[str] | None) -> list[str]:
    if layers is None or layers == "all":
        return find_layers(network, images, layers)
    names = list(dict.fromkeys([layers] if isinstance(layers, str) else layers))
    if not names:
        raise ValueError("layers: expected at least one name, 'all', or none for a choice of depths")
    for name in names:
        part_of(network, name)  # refuses unknown names before anything is measured
    return names
