r"""What of a network's output is to be matched: some units, tensors weighted, and the mean over small shifts."""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils import _pytree as pytree

from ..structures import Network, Structure, rows, standard, tensors

__all__ = ["Matched", "Units", "shifted"]

#: Of one tensor of the output: a channel (a class, a neuron of a flat output), several, or a mask of a sample's shape.
Units: TypeAlias = int | list[int] | Tensor | None


class Matched:
    r"""Rows :math:`w_l (E_l)_{U_l}` of the chosen units of all tensors, weighted.

    Args:
        output: of the network, any number of samples.
        units: for an output of one tensor what :data:`Units` says, for others a structure of these like the output.
        weights: one number a tensor, in the structure of the output.

    Raises:
        TypeError, ValueError: other structures; a unit that does not exist; a mask of another shape, or an empty one; a
            weight below 0 or not finite, or all of them 0.
    """

    def __init__(self, output: Structure, units: Any = None, weights: Any = None) -> None:
        parts, self.structure = tensors(output), pytree.tree_structure(output)
        self.weights = [_weight(each) for each in _per_tensor("weights", weights, output, 1.0)]
        if not any(self.weights):
            raise ValueError("weights: expected at least one greater than 0")
        chosen = _per_tensor("units", units, output, None)
        self.indices = [_index(each, part) for each, part in zip(chosen, parts, strict=True)]
        self.shapes = [part.shape[1:] for part in parts]

    def __call__(self, output: Structure) -> Tensor:
        """Return the rows of a batch, shape ``(N, K)``."""
        return torch.cat([
            weight * self._chosen(part, index)
            for weight, part, index in zip(self.weights, tensors(output), self.indices, strict=True)
        ], 1)  # fmt: skip

    def target(self, target: Structure) -> Structure:
        """Return the target's rows; each tensor has the shape of the output's, or holds the chosen units alone."""
        return torch.cat([
            weight * (self._chosen(part, index) if part.shape[1:] == shape else rows(part))
            for weight, part, index, shape in zip(self.weights, tensors(target), self.indices, self.shapes, strict=True)
        ], 1)  # fmt: skip

    def fits(self, target: Structure) -> bool:
        """Whether the target has the output's structure, and each of its tensors that shape or as many units."""
        parts = tensors(target)
        same = pytree.tree_structure(target) == self.structure and len(parts) == len(self.shapes)
        return same and all(
            part.shape[1:] == shape or (index is not None and part.shape[1:].numel() == len(index))
            for part, index, shape in zip(parts, self.indices, self.shapes, strict=True)
        )

    @staticmethod
    def _chosen(part: Tensor, index: Tensor | None) -> Tensor:
        flat = rows(part)
        return flat if index is None else flat.index_select(1, index)


def _per_tensor(name: str, given: Any, output: Structure, default: Any) -> list[Any]:
    """Return what is given for every tensor of the output that is not ``None``."""
    leaves, structure = pytree.tree_flatten(output)
    present = [leaf is not None for leaf in leaves]
    if given is None:
        return [default] * sum(present)
    try:
        found = [given] if structure.is_leaf() else structure.flatten_up_to(standard(given))
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"{name}: expected a structure like the network's output of {sum(present)} tensors, "
            f"got {type(given).__name__}"
        ) from error
    return [default if each is None else each for each, is_there in zip(found, present, strict=True) if is_there]


def _weight(weight: Any) -> float:
    if isinstance(weight, bool) or not isinstance(weight, int | float):
        raise TypeError(f"weights: expected a number per tensor of the output, got {type(weight).__name__}")
    if not (math.isfinite(weight) and weight >= 0):
        raise ValueError(f"weights: expected finite numbers of at least 0, got {weight!r}")
    return float(weight)


def _index(units: Any, part: Tensor) -> Tensor | None:
    """Return the places of the chosen units in a flattened sample, or ``None`` for all of them."""
    if units is None:
        return None
    shape = part.shape[1:]
    if isinstance(units, Tensor):
        if units.dtype != torch.bool or units.shape != shape:
            raise ValueError(
                f"units: expected a boolean mask of shape {tuple(shape)} like one sample of the output, "
                f"got {units.dtype} of shape {tuple(units.shape)}"
            )
        if not bool(units.any()):
            raise ValueError("units: the mask selects nothing")
        return units.to(part.device).flatten().nonzero().flatten()
    return _channels(units, shape, part.device)


def _channels(units: Any, shape: torch.Size, device: torch.device) -> Tensor:
    """Return the places of channels in a flattened sample, in the order given."""
    numbers = [units] if isinstance(units, int) else units
    whole = isinstance(numbers, list | tuple) and all(isinstance(n, int) and not isinstance(n, bool) for n in numbers)
    if not whole or not numbers:
        raise TypeError(f"units: expected a number, a list of numbers or a boolean mask, got {units!r}")
    count = shape[0] if shape else 1
    for number in numbers:
        if not -count <= number < count:
            raise ValueError(f"units: the output has {count} channels, 0 to {count - 1}, got {number}")
    chosen = [number % count for number in numbers]
    for number in chosen:
        if chosen.count(number) > 1:
            raise ValueError(f"units: expected each channel once, got {number} more than once")
    places = torch.arange(math.prod(shape), device=device).view(shape or (1,))
    return places[chosen].flatten()


def shifted(network: Network, distance: int, count: int, seed: int) -> Network:
    r"""Return a network with the outputs for an image and ``count - 1`` shifts of it, each divided by its root.

    Half the square error is then the mean over the shifts. Shifts are whole pixels up to ``distance`` in either
    direction, drawn by ``seed``, the same in every evaluation; pixels at the border are repeated.
    """
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(0, 2 * distance + 1, (count - 1, 2), generator=generator).tolist()
    offsets = [(distance, distance), *drawn]

    def outputs(images: Tensor) -> Tensor:
        if images.ndim != 4:
            raise ValueError(f"jitter: expected images of shape (N, C, H, W), got {tuple(images.shape)}")
        height, width = images.shape[2:]
        padded = functional.pad(images, [distance] * 4, mode="replicate")
        # Copies: the network may work in place, and the shifts overlap.
        return torch.cat(
            [rows(network(padded[..., y : y + height, x : x + width].clone())) for y, x in offsets], 1
        ) / math.sqrt(count)

    return outputs
