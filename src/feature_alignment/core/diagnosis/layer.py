"""All that is measured at one layer."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from ..inversion.variables import Variables
from ..pullback import evaluation
from ..select import select
from ..structures import Network, Structure, rows
from .clipping import clipped_share
from .pre_images import PreImages, origin, other_mean, pre_images
from .spectrum import Spectrum, spectrum

__all__ = ["Layer", "Options", "diagnose_layer", "part_of"]

T = TypeVar("T", PreImages, Spectrum)


@dataclass(frozen=True)
class Options:
    """How layers are measured.

    Attributes:
        variables: in which pre-images are sought, as for :func:`~feature_alignment.invert`.
        tol: the relative residual to reach.
        max_evaluations: of the network, in each of the two searches for a pre-image.
        probes: of the effective rank, at least 2.
        batch_size: images measured at a time.
        seed: of the probes.

    Raises:
        ValueError: a number out of range.
    """

    variables: str | Variables = "natural"
    tol: float = 1e-2
    max_evaluations: int = 100
    probes: int = 16
    batch_size: int = 8
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("max_evaluations", 1), ("probes", 2), ("batch_size", 1), ("seed", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f"{name}: expected a whole number of at least {least}, got {value!r}")
        if not (math.isfinite(self.tol) and self.tol > 0):
            raise ValueError(f"tol: expected a finite number greater than 0, got {self.tol!r}")


@dataclass(frozen=True)
class Layer:
    r"""What a layer :math:`g` of ``K`` outputs keeps of images :math:`x`; means over the images.

    Attributes:
        name: of the module; ``output`` for the network itself.
        shape: of a sample of its output; of several tensors, flattened.
        size: ``K``.
        effective_rank: of the Jacobian with respect to the image, :math:`(\sum \sigma^2)^2 / \sum \sigma^4`.
        effective_rank_error: its standard error by the random probes; 0 where it is exact (``K`` up to 512).
        largest_singular_value: of the Jacobian.
        smallest_singular_value: of the Jacobian, for ``K`` up to 512, otherwise none.
        clipped: share of units with an activation of slope below 0.01, up to this depth; none without activations.
        residual: of :math:`g g' g = g`: :math:`\lVert g(x') - g(x) \rVert / \lVert g(x) \rVert`, :math:`x' = g'(g(x))`.
        repetition: of :math:`g' g g' = g'`: :math:`\lVert g'(g(x')) - x' \rVert / \lVert x' - x_0 \rVert`.
        information: 1 - the square error of :math:`x'` to :math:`x` / that of the mean of the other images, or of the
            start for one image and for copies of one; 0 where there is no such error.
        information_of_one_step: the same of one Gauss-Newton step.
        information_by_image: ``information`` of each image.
        converged: share of images with a residual of at most the tolerance.
        evaluations: of the network, an image, for all of this.
        seconds: wall time.
        pre_images: :math:`x'`, shape ``(N, ...)``.
        one_step: the inputs after one Gauss-Newton step, shape ``(N, ...)``.
    """

    name: str
    shape: tuple[int, ...]
    size: int
    effective_rank: float
    effective_rank_error: float
    largest_singular_value: float
    smallest_singular_value: float | None
    clipped: float | None
    residual: float
    repetition: float
    information: float
    information_of_one_step: float
    information_by_image: tuple[float, ...]
    converged: float
    evaluations: float
    seconds: float
    pre_images: Tensor
    one_step: Tensor

    def numbers(self) -> dict[str, Any]:
        """Return all but the images, by name."""
        return {each.name: getattr(self, each.name) for each in fields(self) if each.type != "Tensor"}


def part_of(network: Network, name: str) -> Network:
    """Return the network up to a named module, see :func:`~feature_alignment.select`; the network itself for ``""``.

    Raises:
        ValueError: there is no such module, as in a function, which has none.
    """
    if not name:
        return network
    if not isinstance(network, nn.Module):
        raise ValueError(f"names: a function has no modules, and none is called {name!r}; expected '', its output")
    return select(network, name)


def diagnose_layer(
    network: Network,
    name: str,
    images: Tensor,
    start: Tensor | None,
    options: Options,
    tell: Callable[[str], None] = lambda _: None,
) -> Layer:
    """Measure one layer.

    Args:
        network: up to this layer.
        name: of the layer.
        images: shape ``(N, ...)``.
        start: where pre-images are sought from, and what one image alone is compared with; shape ``(1, ...)``; by
            default that of the variables.
        options: how.
        tell: called with what is measured next.

    Raises:
        TypeError, ValueError: as for :func:`~feature_alignment.invert`.
    """
    began = time.perf_counter()
    parts = images.split(options.batch_size)
    tell("pre-images")
    back = _joined([
        pre_images(network, part, start, options.variables, options.tol, options.max_evaluations) for part in parts
    ])  # fmt: skip
    tell("Jacobian")
    jacobian = _joined([
        spectrum(network, part, options.probes, options.seed + number) for number, part in enumerate(parts)
    ])  # fmt: skip
    tell("activations")
    shares = [clipped_share(network, part) for part in parts]
    output = _output(network, images[:1])
    scale = _scale(images, origin(options.variables, start))
    return Layer(
        name=name,
        shape=tuple(output.shape[1:] if isinstance(output, Tensor) else rows(output).shape[1:]),
        size=rows(output).shape[1],
        **_of_jacobian(jacobian),
        clipped=_weighted(shares, parts),
        residual=float(back.residual.mean()),
        repetition=float(back.repetition.mean()),
        information=float(_kept(_errors(back.input, images).sum(), scale.sum())),
        information_of_one_step=float(_kept(_errors(back.one_step, images).sum(), scale.sum())),
        information_by_image=tuple(_kept(_errors(back.input, images), scale).tolist()),
        converged=float(back.converged.float().mean()),
        evaluations=float((back.evaluations + jacobian.evaluations).float().mean()) + 1,
        seconds=time.perf_counter() - began,
        pre_images=back.input,
        one_step=back.one_step,
    )


def _joined(parts: list[T]) -> T:
    """Concatenate the tensors of all parts."""
    values = [[getattr(part, each.name) for part in parts] for each in fields(parts[0])]
    return type(parts[0])(*(None if each[0] is None else torch.cat(each) for each in values))  # type: ignore[arg-type]


def _of_jacobian(found: Spectrum) -> dict[str, Any]:
    count = len(found.largest)
    return {
        "effective_rank": float(found.effective_rank.mean()),
        "effective_rank_error": float(found.standard_error.norm()) / count,
        "largest_singular_value": float(found.largest.mean()),
        "smallest_singular_value": None if found.smallest is None else float(found.smallest.mean()),
    }


def _weighted(shares: list[float | None], parts: tuple[Tensor, ...]) -> float | None:
    known = [(share, len(part)) for share, part in zip(shares, parts, strict=True) if share is not None]
    return sum(share * count for share, count in known) / sum(count for _, count in known) if known else None


@torch.no_grad()
def _output(network: Network, image: Tensor) -> Structure:
    return evaluation(network)(image)


def _scale(images: Tensor, grey: Tensor) -> Tensor:
    """Return the square errors of the mean of the other images; of grey for one image, and for copies of one."""
    images = images.double()
    errors = _errors(other_mean(images, grey.double()), images)
    rounding = torch.finfo(torch.double).eps ** 2 * len(images) ** 2 * images.flatten(1).square().sum(1)
    return torch.where(errors > rounding, errors, _errors(grey.expand_as(images), images))


def _kept(errors: Tensor, scale: Tensor) -> Tensor:
    """Return 1 - errors / scale; 0 for an image that is what it is compared with, of which there is nothing to know."""
    return torch.where(scale > 0, 1 - errors / scale, torch.zeros_like(scale))


def _errors(found: Tensor, images: Tensor) -> Tensor:
    errors: Tensor = (found - images).flatten(1).double().square().sum(1)
    return errors
