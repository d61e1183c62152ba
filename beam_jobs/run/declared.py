"""How a field of the settings is declared: once, and its option, plan and fingerprint follow."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from inspect import get_annotations
from typing import Any, Final

AUTO: Final = "auto"
"""The choice that stands for None."""


@dataclass(frozen=True, kw_only=True)
class Declared:
    """How a field of the settings is declared."""

    # True where the field can move a number, or change which ECGs are scored or rejected: it
    # enters plan.json, the fingerprint and the footers. False where it cannot. The name of
    # another field where it leads to a value that is kept there, such as a file's content.
    moves: bool | str
    flag: str | None = None  # name of the option; None where the field is no option
    group: str = ""  # of the help
    text: str = ""  # of the help
    # Further arguments of `argparse.ArgumentParser.add_argument`.
    argument: Mapping[str, Any] = field(default_factory=dict)
    # The enum whose members are the choices; `auto` is one more where the default is None.
    one_of: type[StrEnum] | None = None
    limits: tuple[float | None, float | None] = (None, None)  # least and most number, either of them None
    convert: Callable[[Any], Any] | None = None  # from the parsed text, or from plan.json, to the value
    add: Callable[[Any], None] | None = None  # adds to a parser an option that is declared elsewhere
    plan_name: str | None = None  # its name in plan.json; None for the name of the field
    # From the value to JSON; None for plain values, enums and tuples of them.
    to_plan: Callable[[Any], Any] | None = None
    from_plan: Callable[[Any], Any] | None = None  # from JSON to the value; None where `convert` does it
    # False keeps a default out of the plan. An option that is new and moves a number needs it:
    # otherwise runs of earlier versions cannot be resumed.
    at_default: bool = True

    @property
    def destination(self) -> str:
        """Name of the parsed argument."""
        assert self.flag is not None
        return self.flag.removeprefix("--").replace("-", "_")

    @property
    def is_required(self) -> bool:
        """The option must be given."""
        return bool(self.argument.get("required", False))

    def add_to(self, parser: argparse._ActionsContainer, default: Any) -> None:
        """Add the option to a parser."""
        if self.add is not None:
            self.add(parser)
            return
        assert self.flag is not None
        more: dict[str, Any] = {"action": "store_true"} if default is False else {}
        if self.one_of is not None:
            more["choices"] = [*([AUTO] if default is None else []), *(one.value for one in self.one_of)]
        if isinstance(default, str | int | float) and not self.is_required:
            more["default"] = default
        parser.add_argument(self.flag, help=self.text, **{**more, **self.argument})

    def value(self, given: Any) -> Any:
        """Return a value of the field from what was parsed."""
        if self.one_of is not None:
            return None if given == AUTO else self.one_of(given)
        return given if self.convert is None else self.convert(given)

    def json(self, value: Any) -> Any:
        """Return a value of the field as plan.json holds it."""
        if self.to_plan is not None and value is not None:
            return self.to_plan(value)
        if isinstance(value, StrEnum):
            return value.value
        return list(value) if isinstance(value, tuple) else value

    def planned_value(self, content: Any) -> Any:
        """Return a value of the field from what plan.json holds."""
        return self.value(content) if self.from_plan is None else self.from_plan(content)


_HOW: Final = frozenset(f.name for f in fields(Declared))


def option(flag: str, group: str, text: str = "", *, moves: bool | str, default: Any = None, **how: Any) -> Any:
    """Declare a field of the settings that is an option of the command line; see `Declared`.

    `default` is a value, or the class that makes it; a member of an enum makes its members the
    choices. Of `how`, what is no field of `Declared` is an argument of
    `argparse.ArgumentParser.add_argument`, such as `type` or `metavar`.
    """
    kind = "default_factory" if isinstance(default, type) else "default"
    own = {name: value for name, value in how.items() if name in _HOW}
    argument = {name: value for name, value in how.items() if name not in _HOW}
    if isinstance(default, StrEnum):
        own["one_of"] = type(default)
    declared = Declared(moves=moves, flag=flag, group=group, text=text, argument=argument, **own)
    return field(**{kind: default}, metadata={"declared": declared})


def resolved(*, moves: bool, default: Any = None, **how: Any) -> Any:
    """Declare a field of the settings that is no option itself, but what options lead to."""
    return field(default=default, metadata={"declared": Declared(moves=moves, **how)})


def declared_fields(settings: type[AllDeclared] | AllDeclared) -> dict[str, Declared]:
    """Return how the fields of settings are declared, by name, in order."""
    return {f.name: f.metadata["declared"] for f in fields(settings)}


@dataclass(frozen=True, kw_only=True)
class AllDeclared:
    """Refuses classes with a field that does not state whether it can move a number."""

    def __init_subclass__(cls) -> None:
        own = [name for name, kind in get_annotations(cls).items() if "ClassVar" not in kind]
        declared = {name: getattr(cls.__dict__.get(name), "metadata", {}).get("declared") for name in own}
        for name, one in declared.items():
            if one is None:
                raise TypeError(
                    f"{cls.__name__}.{name} does not state whether it can move a number; "
                    "declare it by option(...) or resolved(...)"
                )
            if isinstance(one.moves, str) and getattr(declared.get(one.moves), "moves", None) is not True:
                raise TypeError(f"{cls.__name__}.{name} leads to {one.moves}, which is no field that moves a number")
