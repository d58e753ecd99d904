"""Typed options of a training, derived from signatures and docstrings."""

from __future__ import annotations

import argparse
import re
from typing import get_args

from jsonargparse import ArgumentParser, DefaultHelpFormatter, Namespace

from ..data import DataOptions
from ..models import Model
from ..training import TrainingOptions
from .configuration import Configuration, for_class
from .errors import UsageError, one_line
from .parser import Parser, nearest

__all__ = ["TypedOptions"]

#: Patterns in jsonargparse's messages, and their replacements in the user's terms.
WORDS = {
    r'Parser key "([\w.]+)":': r"--\1:",
    r"<class '(?:\w+\.)*(\w+)'>": r"\1",
    r"(?:typing\.)?Literal\[([^]]*)\]": r"one of \1",
    r"Does not validate against .* Subtypes: \[(.*)\] Errors: .* Given value: ": r"expected \1. Got value: ",
    r"Expected a ": "expected ",
}


class TypedOptions:
    """The options ``--data.NAME``, ``--training.NAME`` and, for the class of a model, ``--model.NAME``.

    Args:
        kind: the model's class, if it is known.
        first: the parser of the command's other options, which a misspelt one may be near to.
    """

    def __init__(self, kind: type[Model] | None, first: Parser | None = None) -> None:
        self.kind, self.first = kind, first
        self.parser = ArgumentParser(
            usage=argparse.SUPPRESS,
            formatter_class=_Help,
            add_help=False,
            exit_on_error=False,
            allow_abbrev=False,
        )
        self.names = {"training": self._add(TrainingOptions, "training"), "data": self._add(DataOptions, "data")}
        if kind:
            self.names["model"] = self._add(kind, "model")

    def _add(self, whose: type, section: str) -> list[str]:
        group = self.parser.add_argument_group(f"--{section}.NAME")
        skip = {"image_shape", "classes"}  # the data's
        added = group.add_class_arguments(whose, section, as_group=False, skip=skip, instantiate=False)
        return [name.removeprefix(f"{section}.") for name in added]

    def flags(self) -> list[str]:
        """Return all options as they are written on the command line."""
        return [option for option in self.parser._option_string_actions if option.startswith("--")]

    def format_help(self) -> str:
        """Return the help of all options."""
        return self.parser.format_help()

    def parse(self, arguments: list[str], configuration: Configuration) -> Namespace:
        """Return a namespace with the sections ``training``, ``data`` and ``model``.

        Args:
            arguments: options that override the configuration's.
            configuration: values of options.

        Raises:
            UsageError: an unknown option, or a value of the wrong type.
        """
        sections = {name: values for name, values in configuration.items() if name in ("data", "training")}
        if "model" in configuration and self.kind:
            sections["model"] = for_class(configuration["model"], self.kind, self.names["model"])
        for section, values in sections.items():
            for option in values:
                self._refuse_unknown(section, option)
        try:
            found: Namespace = self.parser.parse_args(arguments, self.parser.parse_object(sections))
        except argparse.ArgumentError as error:
            raise UsageError(f"{self._plain(str(error))} (see falign train --help)") from error
        self._refuse_null(found)
        return found

    def instantiate(self, options: Namespace) -> Namespace:
        """Return the options with modules given by class path, such as an encoder, instantiated."""
        built: Namespace = self.parser.instantiate(options)
        return built

    def _refuse_null(self, found: Namespace) -> None:
        """Refuse null for an option that cannot be null, which the parser takes for one that is not set."""
        for action in self.parser._actions:
            kind = getattr(action, "_typehint", None)
            if action.default is not None and found.get(action.dest, action.default) is None:
                name = getattr(kind, "__name__", str(kind)) if type(None) not in get_args(kind) else ""
                if name:
                    raise UsageError(f"--{action.dest}: expected {name}, got null (see falign train --help)")

    def _refuse_unknown(self, section: str, name: str) -> None:
        known = self.names[section]
        if name.partition(".")[0] in known and re.fullmatch(r"\w+(\.\w+)*", name):
            return
        hint = nearest(name, known) or f"; expected one of {', '.join(known)}"
        whose = self.kind.__name__ if section == "model" and self.kind else section
        raise UsageError(f"--{section}.{name}: {whose} has no such option{hint}")

    def _plain(self, message: str) -> str:
        """Rewrite jsonargparse's message about an invalid argument as one line in the user's terms."""
        unknown = re.match(r"unrecognized arguments: --(\w+)\.([\w.]+)", message)
        if unknown and unknown[1] in self.names:
            self._refuse_unknown(unknown[1], unknown[2])
        text = one_line(message)
        if other := re.match(r"unrecognized arguments: (-[^\s=]+)", text):
            name = other[1][2:]
            same = [f"--{section}.{name}" for section, names in self.names.items() if name in names]
            known = [*self.flags(), *(self.first._option_string_actions if self.first else ())]
            text += f"; did you mean {' or '.join(same)}?" if same else nearest(other[1], known)
        for pattern, words in WORDS.items():
            text = re.sub(pattern, words, text)
        if path := re.search(r"Got value: (\w[\w.]*):(\w+)$", text):
            text += f"; an import path is written {path[1]}.{path[2]} here"
        return text.replace("NoneType", "null")


class _Help(DefaultHelpFormatter):
    """Help from docstrings, without their markup."""

    def _expand_help(self, action: argparse.Action) -> str:
        text = super()._expand_help(action).replace("``", "")
        text = re.sub(r", known subclasses: [^)]*", "", text)  # of nn.Module, more than a thousand
        return re.sub(r":\w+:`[\w.]*?(\w+)`|:math:`([^`]*)`", lambda found: found[1] or found[2], text)
