"""Trials of a network: does it draw random numbers, does it mix the samples of a batch?"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from .structures import Network, Structure, hookable, named_leaves, standard, tensors

__all__ = ["check_batch", "check_independence", "explained_trial"]


#: Evaluations of one sample where the network drew random numbers without a difference yet, and copies in each.
REPEATS, COPIES = 4, 8


@torch.no_grad()
def check_independence(network: Network, start: Tensor) -> None:
    """Refuse a network whose output for a sample is not always the same, whatever its neighbours in the batch.

    Evaluates the first sample alone, beside a much larger neighbour, and beside a much smaller and a near one: three
    evaluations, six samples; a few more only if the network draws random numbers, which may be without effect.

    Raises:
        ValueError: the outputs differ; the message says whether by chance or by neighbours, and in which module.
    """
    first = start[:1].detach()
    if not len(first):
        return  # there are no samples to mix
    before = _random_state(first)
    with explained_trial(network, start):
        alone = _evaluate(network, first)
    check_batch("the network's output", alone, 1)
    if _random_state(first) != before and _is_random(network, first, alone):
        raise ValueError(_random_message(network, first))
    ramp = torch.linspace(0.5, 1.0, first.numel(), dtype=first.dtype, device=first.device).view_as(first)
    far = 10 * (1 + first.abs().max()) * ramp
    batches = [torch.cat([first, *more]) for more in ([first + far], [first + ramp, first - far])]
    found = [_beside(network, batch) for batch in batches]
    if None in found:
        batches.append(torch.cat([first, first + ramp]))
        found.append(_beside(network, batches[-1]))
    for batch, beside in zip(batches, found, strict=True):
        check_batch("the network's output", beside, len(batch))
    if any(beside is not None and _differ(tensors(alone), tensors(beside)) for beside in found):
        if _differ(tensors(alone), tensors(_evaluate(network, first))):
            raise ValueError(_random_message(network, first))
        raise ValueError(
            "network: the output for a sample changes with its neighbours in the batch; "
            "a feature needs a network that treats the samples of a batch independently"
        )
    torch.clear_autocast_cache()  # weights that were cast here have no graph


@contextmanager
def explained_trial(network: Network, start: Tensor, name: str = "start") -> Iterator[None]:
    """Explain an error in an evaluation of the first sample of ``start`` by its dtype, or by the number of samples.

    Raises:
        TypeError: the start has another dtype than the network's weights.
        ValueError: the network takes all samples of the start, but not one.
    """
    try:
        yield
    except (RuntimeError, ValueError, IndexError, AssertionError) as error:
        if isinstance(error, RuntimeError) and (wanted := _other_dtype(network, start)):
            raise TypeError(f"{name}: expected dtype {wanted} like the network's weights, got {start.dtype}") from error
        if len(start) < 2 or _beside(network, start.detach()) is None:
            raise
        line = " ".join(str(error).split())
        raise ValueError(
            f"network: takes {len(start)} samples but not one ({line}); a feature needs a network of any number of "
            "samples: what each has of its own, such as a mask, belongs to the network's input"
        ) from error


def _other_dtype(network: Network, inputs: Tensor) -> torch.dtype | None:
    """Return the dtype of a network's weights where it is not that of its inputs."""
    modules = [part for part in getattr(network, "parts", [network]) if isinstance(part, nn.Module)]
    found = {each.dtype for part in modules for each in part.parameters() if each.is_floating_point()}
    return None if inputs.dtype in found or not found else min(found, key=str)


def check_batch(name: str, output: Structure, batch: int) -> None:
    """Raise a ValueError that names the first tensor whose first dimension is not the batch."""
    for place, leaf in named_leaves(name, output):
        floating = isinstance(leaf, Tensor) and leaf.is_floating_point()  # others are refused as such
        if floating and (leaf.ndim == 0 or leaf.shape[0] != batch):  # len() makes the batch of a traced one a constant
            raise ValueError(
                f"{place}: expected the batch of the input, {batch}, as its first dimension, got shape "
                f"{tuple(leaf.shape)}"
            )


def _random_state(like: Tensor) -> tuple[Any, ...]:
    device = torch.cuda.get_rng_state(like.device) if like.is_cuda else torch.empty(0, dtype=torch.uint8)
    return torch.get_rng_state().numpy().tobytes(), device.numpy().tobytes(), random.getstate()


def _is_random(network: Network, first: Tensor, alone: Structure) -> bool:
    """Whether the outputs for copies of a sample differ, in a few evaluations."""
    copies = first.expand(COPIES, *first.shape[1:])
    for _ in range(REPEATS):
        outputs = tensors(_evaluate(network, copies))
        if any(_differ(tensors(alone), [part[k : k + 1] for part in outputs]) for k in range(COPIES)):
            return True
    return False


def _random_message(network: Network, first: Tensor) -> str:
    return (
        f"network: two evaluations of the same input differ{_where(network, first)}: it draws random numbers or keeps "
        "a state, and a feature needs the same network at every step; call network.eval(), and where that is not "
        "enough, turn it off in its code (functional.dropout(x, training=self.training))"
    )


def _evaluate(network: Network, batch: Tensor) -> Structure:
    return standard(network(batch.clone()))  # it may work in place


def _beside(network: Network, batch: Tensor) -> Structure | None:
    try:
        return _evaluate(network, batch)
    except (ValueError, IndexError, AssertionError, RuntimeError):
        return None  # the neighbour is out of the network's range, not the sample


def _differ(one: list[Any], other: list[Any]) -> bool:
    if len(one) != len(other):
        return True
    return any(
        _parts_differ(a, b[:1] if isinstance(b, Tensor) and b.ndim else b) for a, b in zip(one, other, strict=True)
    )


def _parts_differ(one: Any, other: Any) -> bool:
    if not isinstance(one, Tensor) or one.numel() == 0 or one.ndim == 0 or not one.is_floating_point():
        return False  # empty, or refused by name at the first step
    if one.shape != other.shape:
        return True
    largest = float(torch.nan_to_num(one, posinf=0.0, neginf=0.0).abs().max())
    tolerance = math.sqrt(torch.finfo(one.dtype).eps) * (largest + 1)
    return not bool(torch.isclose(one, other, rtol=0, atol=tolerance, equal_nan=True).all())


def _where(network: Network, first: Tensor) -> str:
    """Name the innermost module that treats copies of a sample differently, or in another evaluation."""
    modules = [part for part in getattr(network, "parts", [network]) if isinstance(part, nn.Module)]
    copies = first.expand(COPIES, *first.shape[1:])
    before = _record(network, modules, copies)
    for _ in range(2 * REPEATS):
        after = _record(network, modules, copies)
        for (name, module, one), (_, _, other) in zip(before, after, strict=False):
            if any(_parts_differ(part[:1].expand_as(part), other[k]) for k, part in enumerate(one)):
                return f" in {type(module).__name__}" + (f" at '{name}'" if name else "")
    return ""


def _record(network: Network, modules: list[nn.Module], batch: Tensor) -> list[tuple[str, nn.Module, list[Tensor]]]:
    """Return the outputs of all modules in an evaluation, the innermost first."""
    calls: list[tuple[str, nn.Module, list[Tensor]]] = []

    def hook(name: str) -> Callable[..., None]:
        def keep(module: nn.Module, inputs: Any, output: Structure) -> None:
            calls.append((name, module, [part.clone() for part in tensors(standard(output)) if _has_batch(part)]))

        return keep

    named = [(name, module) for each in modules for name, module in hookable(each)]
    handles = [module.register_forward_hook(hook(name)) for name, module in named]
    try:
        network(batch.clone())
    finally:
        for handle in handles:
            handle.remove()
    return calls


def _has_batch(part: Any) -> bool:
    return isinstance(part, Tensor) and part.ndim > 0 and len(part) == COPIES
