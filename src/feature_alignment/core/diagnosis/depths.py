"""Where to measure: the modules whose outputs are all that the layers after them are given."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Container
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from ..pullback import evaluation, outside_inference_mode
from ..structures import Network, Structure, hookable, tensors
from ..trials import explained_trial
from .cuts import cuts

__all__ = ["MOST", "find_layers"]

#: Depths by default, at most.
MOST = 12


@dataclass(frozen=True)
class _Call:
    """The first call of a module in an evaluation.

    Attributes:
        name: of the module.
        size: of a sample of its output.
        node: of its output in the graph.
        is_local: whether the innermost module with this output is an activation, a normalisation or the like.
        measurable: whether its output is a floating-point tensor of a batch.
    """

    name: str
    size: int
    node: Any
    is_local: bool
    measurable: bool = True

    @property
    def level(self) -> int:
        """How deep the module is nested; the network itself comes last."""
        return self.name.count(".") if self.name else 1000


def find_layers(network: Network, images: Tensor, wanted: str | None = None, most: int = MOST) -> list[str]:
    """Return names of modules in the order in which the network completes them.

    By default these are modules through whose output all information has to pass: every path in the graph of the
    evaluation from the image to the network's output goes through it, so that branches inside a residual block are
    left out. Of a layer and the normalisation, activation or reshaping that follows it, the last is taken, and what
    does no more than that to the image is left out; of modules with the same output, the outermost. Where they are
    still too many, the first, the last and the outermost are kept, and of the others as many as there is room for,
    evenly spaced.

    Args:
        network: any network; one that is not a module is a single layer.
        images: of which the first is evaluated, shape ``(N, ...)``.
        wanted: ``all`` for every module that the network calls, each output once, also inside branches.
        most: the number of layers by default, at most.

    Returns:
        Names as in :meth:`torch.nn.Module.named_modules`; ``""`` is the network itself. Modules whose output is not a
        floating-point tensor with the batch as its first dimension are left out, as are those of TorchScript.

    Example:
        >>> network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3))
        >>> find_layers(network, torch.rand(1, 1, 4, 4))
        ['2', '3']
        >>> find_layers(network, torch.rand(1, 1, 4, 4), "all")
        ['0', '1', '2', '3']
    """
    if not isinstance(network, nn.Module):
        return [""]
    return outside_inference_mode(lambda: _names(network, images[:1], wanted, most)) or [""]


def _names(network: nn.Module, image: Tensor, wanted: str | None, most: int) -> list[str]:
    pair = image.detach().repeat(2, *[1] * (image.ndim - 1)).requires_grad_()  # two, to know the batch from other sizes
    output, calls = _record(network, pair)
    calls = _distinct(calls)
    if wanted != "all":
        calls = _thinned(_merged(_through(calls, cuts(tensors(output), pair)), image.numel()), most)
    return [call.name for call in calls if call.measurable]


def _through(calls: list[_Call], nodes: Container[Any]) -> list[_Call]:
    """Return the calls with these nodes; one is local only if nothing but local modules were called since the last."""
    found, all_local = [], True
    for call in calls:
        all_local = all_local and call.is_local
        if call.measurable and call.node in nodes:
            found.append(replace(call, is_local=all_local))
            all_local = True
    return found


def _record(network: nn.Module, batch: Tensor) -> tuple[Structure, list[_Call]]:
    found: dict[str, _Call] = {}

    def hook(name: str) -> Callable[..., None]:
        def keep(module: nn.Module, _: Any, output: Any) -> None:
            if name in found:
                return
            is_local = not name or _is_local(module)
            if _is_measurable(output, len(batch)):
                found[name] = _Call(name, output[0].numel(), output.grad_fn, is_local)
            else:
                found[name] = _Call(name, 0, object(), is_local, measurable=False)

        return keep

    handles = [module.register_forward_hook(hook(name)) for name, module in hookable(network)]
    try:
        with torch.enable_grad(), explained_trial(network, batch, "images"):
            output = evaluation(network)(batch)
    finally:
        for handle in handles:
            handle.remove()
    return output, list(found.values())


def _is_measurable(output: Any, batch: int) -> bool:
    return (
        isinstance(output, Tensor)
        and output.is_floating_point()
        and output.ndim > 1
        and len(output) == batch
        and output.numel() > 0
        and output.grad_fn is not None
    )


def _is_local(module: nn.Module) -> bool:
    """Whether a module has nothing inside, no matrix and no kernel of weights."""
    inside = any(True for _ in module.children())
    return not inside and all(each.ndim < 2 for each in module.parameters(recurse=False))


def _distinct(calls: list[_Call]) -> list[_Call]:
    """Keep the outermost of modules with the same output; the innermost was called first."""
    best: dict[Any, _Call] = {}
    for call in calls:
        first = best.setdefault(call.node, call)
        if call.level < first.level:
            best[call.node] = replace(call, is_local=first.is_local)
    return list(best.values())


def _merged(calls: list[_Call], inputs: int) -> list[_Call]:
    """Drop local modules at the image itself, and what a local module follows, if sizes are equal."""
    if not calls:
        return []
    deeper = list(itertools.dropwhile(lambda call: call.is_local and call.size == inputs, calls)) or calls[-1:]
    follows = [after.is_local and after.size == call.size for call, after in itertools.pairwise(deeper)]
    return [call for call, dropped in zip(deeper, [*follows, False], strict=True) if not dropped]


def _thinned(calls: list[_Call], most: int) -> list[_Call]:
    if len(calls) <= most:
        return calls
    kept = {0, len(calls) - 1}
    for level in sorted({call.level for call in calls}):
        here = [place for place, call in enumerate(calls) if call.level == level and place not in kept]
        room = most - len(kept)
        kept.update(here if len(here) <= room else _spread(here, room))
    return [calls[place] for place in sorted(kept)]


def _spread(places: list[int], count: int) -> list[int]:
    """Return so many of the places, evenly spaced."""
    return [places[(2 * k + 1) * len(places) // (2 * count)] for k in range(count)]
