"""Settings written as YAML, read in one place and checked by a pydantic model."""

from __future__ import annotations

import math
import re
import typing
from typing import Any, Final, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from lvm_core.errors import UsageError

# The largest file that comes with the project has 3 kB and 4 levels.
_MAX_BYTES: Final = 256 * 1024
_MAX_LEVELS: Final = 20

# YAML 1.1 reads 010 as 8 and 12:30 as 750.
_OTHER_BASES: Final = re.compile(r"[-+]?0[0-7_]+|[-+]?0[bx].*|.*:.*")


class StrictSettings(BaseModel):
    """Base of settings: unknown names and numbers that are not finite are mistakes."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


Settings = TypeVar("Settings", bound=BaseModel)


def parse_settings(text: str | bytes, model: type[Settings], name: str, **given: Any) -> Settings:
    """Parse and check settings: YAML with `name: value` lines, as UTF-8 where it is bytes.

    `model` says what is expected, `name` is of the file, for messages, and `given` holds settings
    that the file does not state.

    Raises:
        UsageError: it is no YAML or no mapping, a name is unknown, missing or there twice, or a
            value is not what is expected; all mistakes of names and values at once, each with its
            line.
    """
    content, tree = _read_yaml(text, name)
    try:
        return model.model_validate({**content, **given})
    except ValidationError as error:
        lines = _mistakes(error, tree, model)
        raise UsageError("\n".join([f"{name} has mistakes:", *lines])) from error


def _read_yaml(text: str | bytes, name: str) -> tuple[dict[str, Any], yaml.Node]:
    """Return the content of a file of settings, and its nodes, which know their lines."""
    if len(text) > _MAX_BYTES:
        raise UsageError(f"{name} has {len(text):,} bytes, expected a file of settings of at most {_MAX_BYTES:,} bytes")
    try:
        loader = _Loader(text.decode("utf-8-sig") if isinstance(text, bytes) else text)
        tree = loader.get_single_node()
        content = None if tree is None else loader.construct_document(tree)
    except UnicodeDecodeError as error:
        assert isinstance(text, bytes)
        number = text.count(b"\n", 0, error.start) + 1
        raise UsageError(f"{name} is not UTF-8: byte {error.start} (line {number}); save it as UTF-8") from error
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark is not None else ""
        what = ", ".join(part for part in (error.context, error.problem) if part)
        raise UsageError(f"{name} cannot be read as YAML: {line}{what}") from error
    except yaml.YAMLError as error:
        raise UsageError(f"{name} cannot be read as YAML: {error}") from error
    if not isinstance(content, dict) or tree is None:
        raise UsageError(f"{name} holds {type(content).__name__}, expected `name: value` lines")
    return content, tree


class _Loader(yaml.SafeLoader):
    """Plain YAML: names once, finite decimal numbers, no tags, no repeats, few levels."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._levels = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]  # of the stubs
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise _refused(event, "anchors (&) and repeats (*) are not read; write the part out")
        if getattr(event, "tag", None) is not None:
            raise _refused(event, f"the tag {event.tag!r} is not read; write the plain value")
        if self._levels == _MAX_LEVELS:
            raise _refused(event, f"more than {_MAX_LEVELS} levels are nested in each other")
        self._levels += 1
        node = super().compose_node(parent, index)
        self._levels -= 1
        if isinstance(node, yaml.MappingNode):
            _refuse_repeated_names(node)
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            value = super().construct_object(node, deep)
        except ValueError as error:  # a date without a day, a whole number of 5,000 digits
            raise _refused(node, f"{_shown(node.value)} cannot be read: {error}") from error
        if isinstance(value, float) and not math.isfinite(value):
            raise _refused(node, f"{_shown(node.value)} is not a finite number")
        if type(value) is int and _OTHER_BASES.fullmatch(node.value):
            raise _refused(
                node,
                f"{_shown(node.value)} would be read as {value}; write a decimal number, or text in quotation marks",
            )
        return value


def _refuse_repeated_names(node: yaml.MappingNode) -> None:
    lines: dict[str, int] = {}
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode) or key.tag == "tag:yaml.org,2002:merge":
            raise _refused(key, "expected a name before the colon")
        if key.value in lines:
            raise _refused(key, f"{_shown(key.value)} is there already, in line {lines[key.value]}")
        lines[key.value] = key.start_mark.line + 1


def _refused(place: Any, problem: str) -> yaml.MarkedYAMLError:
    """Return the refusal of an event or a node, with its place."""
    return yaml.MarkedYAMLError(problem=problem, problem_mark=place.start_mark)


def _shown(text: str, most: int = 80) -> str:
    return text if len(text) <= most else f"{text[:most]}..."


def _mistakes(error: ValidationError, tree: yaml.Node, model: type[BaseModel]) -> list[str]:
    """Return a line for each mistake; what several allowed kinds say of one value is joined."""
    lines: dict[str, list[str]] = {}
    for mistake in error.errors(include_url=False):
        where, what = _mistake(dict(mistake), tree, model)
        lines.setdefault(where, []).append(what)
    return [f"  {where} {'; or '.join(dict.fromkeys(texts))}" for where, texts in lines.items()]


def _mistake(mistake: dict[str, Any], tree: yaml.Node, model: type[BaseModel]) -> tuple[str, str]:
    """Return where a mistake is, and what it is."""
    place = mistake["loc"]
    if mistake["type"] == "extra_forbidden":
        known = ", ".join(_known(model, place[:-1]))
        return _where(tree, place, place), f"is no setting; expected some of {known}"
    if mistake["type"] == "missing":
        return _where(tree, place, place), "is missing"
    text = mistake["msg"].removeprefix("Value error, ")
    if isinstance(mistake["input"], dict):
        # Of several settings together: the message names them, the first gives the line.
        named = (*place, *text.partition(" ")[0].split("."))
        return f"{_where(tree, named, place)}{':' if place else ''}".rstrip(), text
    # The kind of value that was tried may follow the place.
    place = place[: len(_path(tree, place))]
    return f"{_where(tree, place, place)} is {_shown(repr(mistake['input']))}:", text


def _where(tree: yaml.Node, named: tuple[int | str, ...], place: tuple[int | str, ...]) -> str:
    """Return a place with the line, from 1, of the deepest part of `named` that the text has."""
    line = [int(tree.start_mark.line), *_path(tree, named)][-1] + 1
    return f"line {line}: {'.'.join(str(part) for part in place)}"


def _path(node: yaml.Node, place: tuple[int | str, ...]) -> list[int]:
    """Return the line, from 0, of each part of a place that the text has."""
    lines = []
    for part in place:
        inner = _inner(node, part)
        if inner is None:
            break
        line, node = inner
        lines.append(line)
    return lines


def _inner(node: yaml.Node, part: int | str) -> tuple[int, yaml.Node] | None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == str(part):
                return key.start_mark.line, value
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int):
        return node.value[part].start_mark.line, node.value[part]
    return None


def _known(model: type[BaseModel], place: tuple[int | str, ...]) -> list[str]:
    """Names that are allowed at a place."""
    for part in place:
        kind: Any = model.model_fields[part].annotation if part in model.model_fields else model
        inner = [kind, *typing.get_args(kind)]
        models = [one for one in inner if isinstance(one, type) and issubclass(one, BaseModel)]
        model = models[0] if models else model
    return list(model.model_fields)
