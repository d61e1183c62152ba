"""Settings files: every mistake at once, with its line and what is allowed."""

import pytest
from pydantic import BaseModel, ConfigDict, Field

from lvm_core.errors import UsageError
from lvm_core.settings_text import parse_settings


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str
    days: int = Field(default=0, ge=0)


class Whole(BaseModel):
    model_config = ConfigDict(extra="forbid")
    title: str
    parts: list[Part] = []
    first: Part | None = None


def test_parse_settings__returns_what_the_model_makes_of_it() -> None:
    made = parse_settings("title: t\nparts:\n- name: a\n  days: 3\n", Whole, "s.yaml")
    assert (made.title, made.parts[0].days) == ("t", 3)


TEXT = """\
title: 5

parts:
- name: a
- name: b
  days: -1
- day: 2
first:
  nam: x
  name: y
tilte: z
"""


def test_parse_settings__tells_every_mistake_with_its_line() -> None:
    with pytest.raises(UsageError) as refused:
        parse_settings(TEXT, Whole, "s.yaml")
    assert str(refused.value).splitlines() == [
        "s.yaml has mistakes:",
        "  line 1: title is 5: Input should be a valid string",
        "  line 6: parts.1.days is -1: Input should be greater than or equal to 0",
        "  line 7: parts.2.name is missing",
        "  line 7: parts.2.day is no setting; expected some of name, days",
        "  line 9: first.nam is no setting; expected some of name, days",
        "  line 11: tilte is no setting; expected some of title, parts, first",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a\n- b\n", "s.yaml holds list, expected `name: value` lines"),
        ("", "s.yaml holds NoneType"),
        ("title: [", "s.yaml cannot be read as YAML: while parsing"),
    ],
)
def test_parse_settings__refuses_what_is_no_mapping(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message.replace("[", r"\[")):
        parse_settings(text, Whole, "s.yaml")
