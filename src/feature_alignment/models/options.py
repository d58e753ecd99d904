"""Options of models: frozen dataclasses that inherit as the models do, passed as plain keyword arguments."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import inspect
import math
import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

from torch import nn

from ..samplers import SAMPLERS
from .sampling import BEST

__all__ = ["EncoderOptions", "ModelOptions", "Schedule", "above_zero", "at_least", "one_of", "sizes", "with_options"]

Schedule = Literal["constant", "cosine"]


def one_of(name: str, value: object, options: Any) -> None:
    """Raise a ValueError unless ``value`` is one of the values of the ``Literal`` type ``options``."""
    if value not in get_args(options):
        raise ValueError(f"{name}: expected one of {', '.join(get_args(options))}, got {value!r}")


def at_least(minimum: float, **values: float) -> None:
    """Raise a ValueError that names the first of ``values`` below ``minimum``."""
    for name, value in values.items():
        if not value >= minimum:
            raise ValueError(f"{name}: expected at least {minimum:g}, got {value}")


def above_zero(**values: float | None) -> None:
    """Raise a ValueError that names the first of ``values`` that is neither none nor finite and above 0."""
    for name, value in values.items():
        if value is not None and not 0 < value < math.inf:
            raise ValueError(f"{name}: expected a positive number, got {value}")


def sizes(**values: int | Sequence[int] | None) -> None:
    """Raise a ValueError that names the first of ``values`` that is neither none nor sizes of at least 1."""
    for name, value in values.items():
        each = [value] if isinstance(value, int) else value
        if each is not None and not (len(each) and all(size >= 1 for size in each)):
            what = "a size" if isinstance(value, int) else "sizes"
            raise ValueError(f"{name}: expected {what} of 1 or more, got {value}")


@dataclass(frozen=True)
class ModelOptions:
    """Options of every model.

    Args:
        latent: size of the latent vector.
        classes: number of classes of a conditional model, 0 for an unconditional one.
        learning_rate: of Adam; the paper prints 1e-5, its code has 1e-4.
        betas: decay rates b1, b2 of Adam's moments. No step of a parameter exceeds the larger of 1 and
            (1 - b1) / sqrt(1 - b2) learning rates (Kingma and Ba 2015, section 2.1): 16 with the default, 1 with 0.9
            and 0.99, with which trainings at large rates blow up less.
        schedule: of the learning rate: ``constant``, or ``cosine`` from its value to 0 over the training's updates.
        clip_gradient: bound on the norms of the encoder's, decoder's and refiner's gradients; none for no bound.
        sampler: where the latents of samples come from, see :data:`feature_alignment.samplers.SAMPLERS`: ``normal``,
            N(0, I), the prior; ``gaussian``, ``mixture`` or ``flow``, fitted to the latents of training images; or
            ``best``, that of the highest held-out likelihood. None for the prior, or for ``best`` of the Gaussian and
            the mixture in a model without a prior.
    """

    latent: int = 32
    classes: int = 0
    learning_rate: float = 1e-4
    betas: tuple[float, float] = (0.5, 0.999)
    schedule: Schedule = "constant"
    clip_gradient: float | None = None
    sampler: str | None = None

    def __post_init__(self) -> None:
        at_least(1, latent=self.latent)
        if self.classes < 0 or self.classes == 1:
            raise ValueError(f"classes: expected 0 (no labels) or at least 2, got {self.classes}")
        above_zero(learning_rate=self.learning_rate, clip_gradient=self.clip_gradient)
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas: expected two numbers of at least 0 and below 1, got {self.betas}")
        one_of("schedule", self.schedule, Schedule)
        if self.sampler not in (None, BEST, *SAMPLERS):
            raise ValueError(f"sampler: expected one of {', '.join(SAMPLERS)}, {BEST}, got {self.sampler!r}")


@dataclass(frozen=True)
class EncoderOptions(ModelOptions):
    """Options of a model with the encoder of Tables 2 to 4.

    Args:
        channels: number of filters, one entry per halving of the image's side, see
            :class:`feature_alignment.models.networks.Encoder`.
        width: size of the encoder's output.
        activation: of the encoder; smooth ones (``silu``) suit more than one step.
        activate_width: apply the activation after the encoder's last linear layer too; the paper's tables do not.
    """

    channels: Sequence[int] = (32, 64)
    width: int = 4096
    activation: str = "leaky_relu"
    activate_width: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        sizes(channels=self.channels, width=self.width)


def with_options(cls: type, options: type[ModelOptions]) -> None:
    """Give the constructor of ``cls`` an explicit signature and docstring, derived from its options.

    The constructor itself takes ``**options``; ``help``, editors and the command line read the derived signature.
    """
    function: Callable[..., Any] = inspect.unwrap(cls.__init__)  # type: ignore[misc]
    parameters = list(inspect.signature(function).parameters.values())
    if all(each.kind is not each.VAR_KEYWORD for each in parameters):
        return  # a user's own constructor that takes no options

    @functools.wraps(function)
    def construct(self: Any, *args: Any, **kwargs: Any) -> None:
        function(self, *args, **kwargs)
        # Not that of a base class, which a class of the user's calls with modules of its own.
        outermost = self.__class__ is cls
        if outermost:
            self.own_modules = tuple(name for name, value in kwargs.items() if _has_modules(value))

    types = _hints(function)
    own = [
        each.replace(annotation=types.get(each.name, each.annotation))
        for each in parameters
        if each.kind is not each.VAR_KEYWORD
    ]
    hints = _hints(options)
    fields = [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=field.default,
            annotation=hints.get(field.name, field.type),
        )
        for field in dataclasses.fields(options)
        if field.name not in {each.name for each in own}
    ]
    construct.__signature__ = inspect.Signature([*own, *fields])  # type: ignore[attr-defined]
    construct.__doc__ = "Build the model.\n\nArgs:\n" + "\n".join(_described(options))
    cls.__init__ = construct  # type: ignore[misc]


def _has_modules(value: Any) -> bool:
    return isinstance(value, nn.Module) or (isinstance(value, list | tuple) and any(map(_has_modules, value)))


def _hints(owner: Any) -> dict[str, Any]:
    try:
        return typing.get_type_hints(owner)
    except NameError:  # a subclass of the user's own whose annotations exist for type checkers only
        return {}


def _described(options: type[ModelOptions]) -> list[str]:
    """Return the lines under ``Args`` of the options' docstrings, those of base classes first."""
    lines: list[str] = []
    for kind in reversed(options.__mro__):
        if dataclasses.is_dataclass(kind):
            lines += inspect.cleandoc(kind.__doc__ or "").partition("Args:\n")[2].splitlines()
    return [line for line in lines if line.strip()]


def build(options: type[ModelOptions], model: str, given: dict[str, Any]) -> Any:
    """Return the options with the values ``given``.

    Raises:
        TypeError: an unknown name, with the nearest one; a value of another kind, such as a text for a number, which
            ``2e-3`` is in YAML 1.1, or one number where several are expected.
        ValueError: a value out of range, named.
    """
    known = [field.name for field in dataclasses.fields(options)]
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(known)}"
            raise TypeError(f"{model} has no option {name!r}; {hint}")
    hints = _hints(options)
    for name, value in given.items():
        if name in hints and not _is_of(hints[name], value):
            got = f"the text {value!r}" if isinstance(value, str) else repr(value)
            raise TypeError(f"{name}: expected {_words(hints[name])}, got {got}")
    return options(**{name: _plain(value) for name, value in given.items()})


def _plain(value: Any) -> Any:
    """Return Python's own numbers in place of others, such as NumPy's, which JSON does not have."""
    if isinstance(value, list | tuple):
        return type(value)(map(_plain, value))
    if isinstance(value, bool) or not isinstance(value, Real):
        return value
    return int(value) if isinstance(value, Integral) else float(value)


#: Kinds of values: how to recognise one, and what it is called.
KINDS: dict[Any, tuple[tuple[type, ...], str]] = {
    bool: ((bool,), "true or false"),
    int: ((Integral,), "a whole number"),
    float: ((Real,), "a number"),
    str: ((str,), "a name"),
    type(None): ((type(None),), "none"),
}


def _is_of(hint: Any, value: Any) -> bool:
    """Whether a value is of an annotated kind; what is not known here passes, and is checked by the options."""
    if hint in KINDS:
        return isinstance(value, KINDS[hint][0]) and (hint is bool or not isinstance(value, bool))
    if get_origin(hint) in (Union, UnionType):
        return any(_is_of(each, value) for each in get_args(hint))
    if get_origin(hint) in (tuple, Sequence):
        of = get_args(hint)[0]
        if isinstance(value, str):
            return of is str  # one name, for a sequence of one
        return isinstance(value, Sequence) and all(_is_of(of, each) for each in value)
    return not (get_origin(hint) is Literal and isinstance(value, Real))


def _words(hint: Any) -> str:
    if hint in KINDS:
        return KINDS[hint][1]
    if get_origin(hint) in (Union, UnionType):
        return " or ".join(_words(each) for each in get_args(hint))
    if get_origin(hint) in (tuple, Sequence):
        return f"several, each {_words(get_args(hint)[0])}"
    return " or ".join(map(str, get_args(hint)))
