"""Settings files: every mistake at once, with its line and what is allowed."""

from typing import Self

import pytest
from pydantic import BaseModel, ConfigDict, Field, model_validator

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


class Days(BaseModel):
    least: int
    most: int

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.most < self.least:
            raise ValueError(f"most is {self.most}, expected {self.least} or more")
        return self


class Both(BaseModel):
    days: Days
    end: int = 0

    @model_validator(mode="after")
    def _after_days(self) -> Self:
        if self.end > 9:
            raise ValueError(f"end is {self.end}, expected 9 or less")
        return self


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("days:\n  least: 3\n  most: 2\n", "line 3: days: most is 2, expected 3 or more"),
        ("days:\n  least: 3\n  most: 4\nend: 10\n", "line 4: end is 10, expected 9 or less"),
        ("end: 3\ndays: {most: 5, least: 6}\n", "line 2: days: most is 5, expected 6 or more"),
    ],
)
def test_parse_settings__a_mistake_of_several_settings_is_told_without_all_of_them(
    text: str, line: str
) -> None:
    with pytest.raises(UsageError) as refused:
        parse_settings(text, Both, "s.yaml")
    assert str(refused.value).splitlines()[1:] == [f"  {line}"]
