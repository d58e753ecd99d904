"""Saving and loading: weights in ``model.safetensors``; model class, options, class names in ``config.json``."""

from __future__ import annotations

import dataclasses
import json
import math
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, TypeVar, cast

import torch
from safetensors import safe_open
from safetensors.torch import load, load_file, save
from torch import Tensor, nn

from ..extras import MissingExtra
from ..files import write_atomically
from .earlier_versions import present_options, upgraded
from .hub import download
from .sampling import Samplers

if TYPE_CHECKING:
    from .model import Model

__all__ = ["Saved"]

S = TypeVar("S", bound="Saved")

#: Data types of weights, by name.
DTYPES = {
    str(each).removeprefix("torch."): each for each in (torch.float32, torch.float64, torch.float16, torch.bfloat16)
}


class Saved:
    """Mixin that saves and loads a model."""

    Options: ClassVar[type[Any]]
    options: Any
    image_shape: tuple[int, ...]
    white: dict[str, float]
    samplers: Samplers
    #: Names of the constructor's arguments that were modules, such as ``encoder``, which ``config.json`` cannot hold.
    own_modules: tuple[str, ...] = ()

    def save_pretrained(self, directory: str | Path) -> None:
        """Write ``model.safetensors`` and ``config.json`` into ``directory``, each atomically."""
        from .. import __version__

        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        config = {
            "model": type(self).__name__,
            "module": None if _is_ours(type(self)) else type(self).__module__,
            "version": __version__,
            "class_names": list(cast("Model", self).class_names),
            "white": self.white,
            "samplers": self.samplers.likelihoods,
            "modules": list(self.own_modules),
            "dtype": str(cast("Model", self).dtype).removeprefix("torch."),
            "arguments": {"image_shape": list(self.image_shape), **dataclasses.asdict(self.options)},
        }
        weights = _apart(cast(nn.Module, self).state_dict())
        write_atomically(directory / "model.safetensors", save(weights, metadata={"format": "pt"}))
        write_atomically(directory / "config.json", json.dumps(config, indent=2) + "\n")

    @classmethod
    def from_pretrained(cls: type[S], name: str | Path, **arguments: Any) -> S:
        """Load what :meth:`save_pretrained` wrote, in eval mode, on the CPU, in the dtype that it was saved in.

        Args:
            name: a directory, or the name of a repository on the Hugging Face Hub (``owner/name``).
            arguments: override those in ``config.json``; a custom ``encoder`` module has to be passed here.

        Raises:
            FileNotFoundError: there is no such model.
            ValueError: the files hold a model of another class, or weights that do not fit ``config.json``; a module
                that it was built with is missing in ``arguments``.
            MissingExtra: a name on the Hub, and its library is not installed.
        """
        directory = Path(name)
        if not directory.is_dir():
            directory = download(str(name))
        for file in ("config.json", "model.safetensors"):
            if not (directory / file).is_file():
                raise FileNotFoundError(f"{directory}: not a saved model, there is no {file}")
        kind, own, saved, class_names, white, likelihoods, modules, dtype = _read_config(directory / "config.json")
        # A class of one's own may have the name of one of ours; one whose code was run as a script, of another module.
        known = {model.__name__: model for model in sorted(_subclasses(cls), key=lambda each: _likeness(each, own))}
        if own is not None and kind in known and _is_ours(known[kind]):
            del known[kind]
        if kind not in known:
            of_ones_own = "" if own is None else f" of the module {own}, which has to be imported first"
            expected = f"expected {' or '.join(sorted(known))}"
            raise ValueError(f"{directory}: holds the model {kind!r}{of_ones_own or f', {expected}'}")
        if missing := [name for name in modules if name not in arguments]:
            raise ValueError(
                f"{directory}: was built with {' and '.join(missing)} of your own, whose code is not saved; pass "
                f"{', '.join(f'{name}=' for name in missing)} to from_pretrained"
            )
        constructor: Any = known[kind]

        def built() -> Any:
            model = constructor(**(present_options(kind, saved) | arguments))
            model.samplers.add(likelihoods)
            return model.to(dtype)

        try:
            if (empty := _without_memory(built, arguments)) is not None:
                _compare(directory / "model.safetensors", empty)
            model = built()
        except (_DoesNotFit, MissingExtra):
            raise
        except Exception as error:  # whatever values of no sense make of a constructor
            raise ValueError(f"{directory / 'config.json'}: not a {kind} of this version: {_one_line(error)}") from None
        try:
            weights = upgraded(_weights(directory / "model.safetensors"), model)
            _check_kinds(weights, model)
            model.load_state_dict(weights)
        except Exception as error:
            raise _DoesNotFit(directory / "model.safetensors", _one_line(error)) from None
        model.samplers.likelihoods = likelihoods
        if len(class_names) == model.classes:
            model.class_names = tuple(class_names)
        model.white = white
        return cast(S, model.eval())


class _DoesNotFit(ValueError):  # noqa: N818 (what the weights do not)
    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: does not fit config.json: {reason}")


def _one_line(error: Exception) -> str:
    return textwrap.shorten(str(error), 300, placeholder=" ...") or type(error).__name__


def _without_memory(built: Callable[[], nn.Module], arguments: dict[str, Any]) -> nn.Module | None:
    """Build a model on the device ``meta``, where it takes no memory, however large a damaged file says that it is.

    Returns:
        None if that is not possible: a module was passed, which is on a device, or the constructor needs values.
    """
    if any(isinstance(value, nn.Module) for value in arguments.values()):
        return None
    try:
        with torch.device("meta"):
            return built()
    except (ValueError, TypeError):
        raise
    except Exception:  # it will say what is wrong where there is memory
        return None


def _compare(path: Path, empty: nn.Module) -> None:
    """Raise a ValueError unless the tensors that a file's header names fit a model on the device ``meta``."""
    if not _is_text(path):
        return
    try:
        with safe_open(path, "pt") as file:
            named = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
        with torch.device("meta"):
            empty.load_state_dict(
                upgraded({name: torch.empty(shape) for name, shape in named.items()}, cast("Model", empty))
            )
    except Exception as error:  # whatever a damaged header makes the libraries raise
        raise _DoesNotFit(path, _one_line(error)) from None


def _check_kinds(weights: dict[str, Tensor], model: nn.Module) -> None:
    """Raise a ValueError that names the first integers where the model has floating point, as quantised ones are."""
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point() and name in weights and not weights[name].is_floating_point():
            raise ValueError(f"{name} holds {weights[name].dtype}, expected floating point")


def _weights(path: Path) -> dict[str, Tensor]:
    return load_file(path) if _is_text(path) else load(path.read_bytes())


def _is_text(path: Path) -> bool:
    """Whether a path can be decoded, which safetensors requires of one."""
    return str(path) == str(path).encode(errors="ignore").decode()


def _apart(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors on the CPU, each with its own memory: tied weights are written once for each name."""
    weights: dict[str, Tensor] = {}
    memory: set[int] = set()
    for name, tensor in state.items():
        found = tensor.detach().contiguous().cpu()
        weights[name] = found.clone() if found.untyped_storage().data_ptr() in memory else found
        memory.add(found.untyped_storage().data_ptr())
    return weights


class _Config(NamedTuple):
    """The content of ``config.json``: the model's class, its arguments, and what it knows of its training data."""

    kind: str
    own: str | None
    arguments: dict[str, Any]
    class_names: list[str]
    white: dict[str, float]
    likelihoods: dict[str, float]
    modules: list[str]
    dtype: torch.dtype


def _read_config(path: Path) -> _Config:
    try:
        config = json.loads(path.read_text())
        names = [str(each) for each in config.get("class_names", ())]
        white = {str(name): float(value) for name, value in config.get("white", {}).items()}
        likelihoods = {str(name): float(value) for name, value in config.get("samplers", {}).items()}
        modules = [str(each) for each in config.get("modules", ())]
        if not all(0 < value < math.inf for value in white.values()):
            raise ValueError(f"white: expected numbers above 0, got {white}")
        dtype = DTYPES[config.get("dtype", "float32")]  # which earlier versions do not name
        own = config.get("module")
        kind, arguments = str(config["model"]), dict(config["arguments"])
        return _Config(kind, own and str(own), arguments, names, white, likelihoods, modules, dtype)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError) as error:
        raise ValueError(f"{path}: not the configuration of a model: {_one_line(error)}") from None


def _likeness(kind: type[Any], own: str | None) -> tuple[bool, bool]:
    """Return how well a class fits the module that was saved; the last of them in order fits best."""
    return kind.__module__ == own, _is_ours(kind) == (own is None)


def _is_ours(kind: type[Any]) -> bool:
    return kind.__module__.startswith(f"{__package__}.")


def _subclasses(cls: type[Any]) -> list[type[Any]]:
    found = [] if getattr(cls, "__abstractmethods__", None) else [cls]
    return found + [each for child in cls.__subclasses__() for each in _subclasses(child)]
