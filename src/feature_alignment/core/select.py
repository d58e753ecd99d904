"""The outputs of named modules inside any network, as a network of its own."""

from __future__ import annotations

import difflib
import threading
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from .pullback.workarounds import uncompiled, without_fast_path
from .structures import Structure

__all__ = ["Selection", "select"]


def select(network: nn.Module, *names: str) -> Selection:
    """Return a network whose outputs are those of named modules inside ``network``.

    Its evaluation stops after the last of them: nothing that follows is computed. If a module is called several
    times in one evaluation, its first output is returned. Weights are shared with ``network``, not copied.

    Args:
        network: any module that can be called with one batch, shape ``(N, ...)``.
        names: of modules, as in :meth:`torch.nn.Module.named_modules`, such as ``layer3.1.conv2``.

    Returns:
        A module that maps a batch to the output of the named module, or to a tuple of outputs if there are several
        names, in the order of the names. It can be used like any network: :func:`~feature_alignment.align`,
        :func:`~feature_alignment.invert`, :mod:`torch.func`.

    Raises:
        TypeError: ``network`` is not a module.
        ValueError: no name, or one that the network does not have: the nearest ones are named; or one of TorchScript.
            When it is evaluated: a module that the network does not call.

    Example:
        >>> network = nn.Sequential(nn.Linear(8, 6), nn.Tanh(), nn.Linear(6, 4))
        >>> select(network, "1")(torch.zeros(2, 8)).shape
        torch.Size([2, 6])
    """
    if not isinstance(network, nn.Module):
        raise TypeError(f"network: expected a torch.nn.Module with named modules inside, got {type(network).__name__}")
    if not names:
        raise ValueError(f"names: expected at least one, such as {_examples(network)}")
    modules = dict(network.named_modules(remove_duplicate=False))
    for name in names:
        if not isinstance(name, str) or name not in modules:
            raise ValueError(f"names: the network has no module {name!r}; {_nearest(name, network)}")
        if isinstance(modules[name], torch.jit.ScriptModule):
            raise ValueError(f"names: {name!r} is of TorchScript; take the network that it was made of")
    return Selection(network, names)


class Selection(nn.Module):
    """What :func:`select` returns."""

    def __init__(self, network: nn.Module, names: tuple[str, ...]) -> None:
        super().__init__()
        self.network, self.names = network, names

    def forward(self, x: Tensor) -> Structure:
        """Return the outputs of the named modules for a batch."""
        found = _outputs(self.network, self.names, x)
        return found[0] if len(found) == 1 else tuple(found)

    def extra_repr(self) -> str:
        """Return the names."""
        return ", ".join(map(repr, self.names))


class _Complete(BaseException):
    """Ends an evaluation once all outputs are found; not an Exception, which the network might catch."""


def _outputs(network: nn.Module, names: tuple[str, ...], x: Tensor) -> list[Structure]:
    modules = dict(network.named_modules(remove_duplicate=False))
    wanted = {modules[name] for name in names}
    found: dict[nn.Module, Structure] = {}
    thread, complete = threading.get_ident(), _Complete()

    def keep(module: nn.Module, inputs: Any, output: Structure) -> None:
        if threading.get_ident() != thread:
            return  # an evaluation of the same modules elsewhere
        if module in found:
            return
        found[module] = output
        if len(found) == len(wanted):
            raise complete
        # A later layer may overwrite it in place.
        found[module] = pytree.tree_map(lambda leaf: leaf.clone() if isinstance(leaf, Tensor) else leaf, found[module])

    handles = [module.register_forward_hook(keep) for module in wanted]
    try:
        with uncompiled(), without_fast_path():
            network(x)
    except _Complete as reached:
        if reached is not complete:
            raise  # of a selection around this one
    finally:
        for handle in handles:
            handle.remove()
    for name in names:
        if modules[name] not in found:
            raise ValueError(f"names: the network does not call its module {name!r}; {_nearest(name, network, found)}")
    return [found[modules[name]] for name in names]


def _nearest(name: Any, network: nn.Module, among: Any = None) -> str:
    modules = [other for other, module in network.named_modules() if other and (among is None or module in among)]
    near = (
        difflib.get_close_matches(str(name), modules, n=3, cutoff=0.4)
        or [other for other in modules if str(name).split(".")[-1] in other.split(".")][:3]
    )
    return f"nearest: {', '.join(near)}" if near else f"it has modules such as {_examples(network)}"


def _examples(network: nn.Module) -> str:
    names = [name for name, _ in network.named_modules() if name]
    return ", ".join(names[:5]) or "'' (the network itself)"
