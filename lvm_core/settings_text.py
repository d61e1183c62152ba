"""Settings written as YAML, checked by a pydantic model; mistakes told with their lines."""

from __future__ import annotations

import typing
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from lvm_core.errors import UsageError

Settings = TypeVar("Settings", bound=BaseModel)


def parse_settings(text: str, model: type[Settings], name: str) -> Settings:
    """Parse and check settings.

    Args:
        text: YAML with `name: value` lines.
        model: what is expected; it should forbid extra names.
        name: of the file, for messages.

    Returns:
        The checked settings.

    Raises:
        UsageError: it is no YAML or no mapping, a name is unknown or missing, or a value is not
            what is expected; all mistakes at once, each with its line.
    """
    try:
        tree = yaml.compose(text, Loader=yaml.SafeLoader)
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UsageError(f"{name} cannot be read as YAML: {error}") from error
    if not isinstance(content, dict) or tree is None:
        raise UsageError(f"{name} holds {type(content).__name__}, expected `name: value` lines")
    try:
        return model.model_validate(content)
    except ValidationError as error:
        mistakes = [
            _told(dict(mistake), tree, model) for mistake in error.errors(include_url=False)
        ]
        raise UsageError("\n".join([f"{name} has mistakes:", *mistakes])) from error


def _told(mistake: dict[str, Any], tree: yaml.Node, model: type[BaseModel]) -> str:
    place = mistake["loc"]
    where = ".".join(str(part) for part in place) or "the file"
    line = f"  line {_line(tree, place)}: {where}"
    if mistake["type"] == "extra_forbidden":
        return f"{line} is no setting; expected some of {', '.join(_known(model, place[:-1]))}"
    if mistake["type"] == "missing":
        return f"{line} is missing"
    if isinstance(mistake["input"], dict):
        # Of several settings together: the message names them, the first tells the line.
        text = mistake["msg"].removeprefix("Value error, ")
        named = (*place, *text.partition(" ")[0].split("."))
        return f"  line {_line(tree, named)}: {f'{where}: ' if place else ''}{text}"
    return f"{line} is {mistake['input']!r}: {mistake['msg']}"


def _line(node: yaml.Node, place: tuple[int | str, ...]) -> int:
    """Line of the deepest part of a place that the text has, from 1."""
    line = node.start_mark.line
    for part in place:
        inner = _inner(node, part)
        if inner is None:
            break
        line, node = inner
    return int(line) + 1


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
