"""Random numbers of samples, drawn for the whole batch where several processes train on it together."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Part", "draw", "part", "part_of_batch", "seeded", "standard_normal"]


@dataclass(frozen=True, eq=False)
class Part:
    """The samples that one of several processes has of a batch: number ``process``, and every ``processes``-th after.

    Attributes:
        process: number of this process, from 0.
        processes: their number; 1 for the whole batch.
        size: number of samples in this part.
        generator: of the whole batch's random numbers, in the same state in all processes; on the samples' device.
    """

    process: int = 0
    processes: int = 1
    size: int = 0
    generator: torch.Generator | None = None

    def among_first(self, count: int) -> int:
        """Return how many of the whole batch's first ``count`` samples are in this part; they are its first ones.

        Example:
            >>> [Part(process, processes=4).among_first(6) for process in range(4)]
            [2, 2, 1, 1]
        """
        return max(0, -(-(count - self.process) // self.processes))


_PART: ContextVar[Part | None] = ContextVar("part", default=None)


def part() -> Part:
    """Return the part of the batch that is trained on here; outside of :func:`part_of_batch`, all of it."""
    return _PART.get() or Part()


@contextmanager
def part_of_batch(chosen: Part) -> Iterator[None]:
    """Let :func:`draw` draw what belongs to a part of a batch."""
    before = _PART.set(chosen)
    try:
        yield
    finally:
        _PART.reset(before)


def draw(numbers: Callable[[int], Tensor], count: int) -> Tensor:
    """Return ``numbers(count)``, random numbers of so many samples.

    Within :func:`part_of_batch` they are drawn for all of the batch, as one process would, and those of the part's
    samples are returned: a sample's numbers depend on its place in the whole batch, not on the process that has it.

    Args:
        numbers: draws from PyTorch's global generator; its first dimension has the size it is given.
        count: number of samples: the part's size, or a multiple of it for batches in a row.

    Raises:
        ValueError: another ``count``.

    Example:
        >>> def numbers(count):
        ...     return torch.rand(count, 2)
        >>> _ = torch.manual_seed(0)
        >>> whole = draw(numbers, 6)
        >>> with part_of_batch(Part(1, processes=2, size=3, generator=torch.Generator().manual_seed(0))):
        ...     ours = draw(numbers, 3)
        >>> torch.equal(ours, whole[1::2])
        True
    """
    here = part()
    if here.generator is None:
        return numbers(count)
    if count % here.size:
        raise ValueError(f"count: expected a multiple of the {here.size} samples of this process, got {count}")
    with _as_global(here.generator):
        whole = numbers(count * here.processes)
    rest = whole.shape[1:]
    return whole.view(-1, here.size, here.processes, *rest)[:, :, here.process].reshape(count, *rest)


@contextmanager
def _as_global(generator: torch.Generator) -> Iterator[None]:
    """Let PyTorch's global generator continue from the state of another one, which continues from where it ended."""
    device = generator.device
    default: torch.Generator = torch.default_generator
    if device.type != "cpu":
        default = torch.get_device_module(device).default_generators[device.index or 0]
    before = default.get_state()
    default.set_state(generator.get_state())
    try:
        yield
    finally:
        generator.set_state(default.get_state())
        default.set_state(before)


def standard_normal(count: int, size: int, like: Tensor) -> Tensor:
    """Return draws from N(0, 1) by :func:`draw`, shape ``(count, size)``, of the dtype and device of ``like``."""
    return draw(lambda number: torch.randn(number, size, dtype=like.dtype, device=like.device), count)


@contextmanager
def seeded(seed: int, device: torch.device | str = "cpu") -> Iterator[None]:
    """Seed PyTorch's global generators of the CPU and of ``device``, and restore them afterwards; no other is touched.

    Example:
        >>> with seeded(0):
        ...     first = torch.rand(3)
        >>> with seeded(0):
        ...     bool((torch.rand(3) == first).all())
        True
    """
    device = torch.device(device)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.default_generator.manual_seed(seed)
        if device.type == "cuda":
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield
