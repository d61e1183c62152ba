"""Settings files: every mistake at once, with its line and what is allowed."""

from typing import Annotated, Self

import pytest
from pydantic import BaseModel, Field, model_validator

from lvm_core.errors import UsageError
from lvm_core.settings_text import StrictSettings, parse_settings


class Part(StrictSettings):
    name: str
    days: int = Field(default=0, ge=0)


class Whole(StrictSettings):
    title: str
    parts: list[Part] = Field(default=[])
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


def test_parse_settings__names_every_mistake_with_its_line() -> None:
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
        ("title: [", "s.yaml cannot be read as YAML: line 1: while parsing"),
        ("title: \x00", "s.yaml cannot be read as YAML: unacceptable character"),
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
def test_parse_settings__a_mistake_of_several_settings_does_not_list_them_all(text: str, line: str) -> None:
    with pytest.raises(UsageError) as refused:
        parse_settings(text, Both, "s.yaml")
    assert str(refused.value).splitlines()[1:] == [f"  {line}"]


class Rate(StrictSettings):
    title: str = ""
    rate_hz: Annotated[float, Field(gt=0)] | int | None = None
    columns: dict[str, str] = Field(default={})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("title: t\nrate_hz: 500\nrate_hz: 400\n", "line 3: rate_hz is there already, in line 2"),
        ("title: t\ncolumns: {a: b, a: c}\n", "line 2: a is there already, in line 2"),
        ("title: t\n'title': u\n", "line 2: title is there already, in line 1"),
        ("title: t\nrate_hz: .inf\n", "line 2: .inf is not a finite number"),
        ("title: t\nrate_hz: -.Inf\n", "line 2: -.Inf is not a finite number"),
        ("title: t\nrate_hz: .nan\n", "line 2: .nan is not a finite number"),
        ("title: t\nrate_hz: 1.0e+999\n", "line 2: 1.0e+999 is not a finite number"),
        ("title: t\nrate_hz: 0500\n", "line 2: 0500 would be read as 320; write a decimal"),
        ("title: t\nrate_hz: 0x1F4\n", "line 2: 0x1F4 would be read as 500; write a decimal"),
        ("title: t\nrate_hz: 8:20\n", "line 2: 8:20 would be read as 500; write a decimal"),
        ("title: t\nrate_hz: 2020-13-45\n", "line 2: 2020-13-45 cannot be read: month must"),
        (f"title: t\nrate_hz: {'9' * 5000}\n", f"line 2: {'9' * 80}... cannot be read: Exceeds"),
        ("title: &t x\ncolumns: {a: *t}\n", "line 1: anchors (&) and repeats (*) are not read"),
        ("title: x\ncolumns: {a: *t}\n", "line 2: anchors"),
        ("columns:\n  <<: {a: b}\n", "line 2: expected a name before the colon"),
        ("columns:\n  ? [a, b]\n  : c\n", "line 2: expected a name before the colon"),
        ("title: !!python/name:os.system x\n", "line 1: the tag 'tag:yaml.org,2002:python/name:os"),
        ("title: !!int x\n", "line 1: the tag 'tag:yaml.org,2002:int' is not read"),
        ("title: t\ncolumns: " + "[" * 5000, "line 2: more than 20 levels are nested"),
        ("title: t\n" + "".join(f"{' ' * n}a:\n" for n in range(400)), "line 21: more than 20"),
    ],
)
def test_parse_settings__refuses_what_would_be_read_as_something_else(text: str, message: str) -> None:
    with pytest.raises(UsageError) as refused:
        parse_settings(text, Rate, "s.yaml")
    assert str(refused.value).startswith(f"s.yaml cannot be read as YAML: {message}")


def test_parse_settings__infinity_in_words_is_a_mistake() -> None:
    with pytest.raises(UsageError) as refused:
        parse_settings("title: t\nrate_hz: inf\n", Rate, "s.yaml")
    assert str(refused.value).splitlines()[1] == (
        "  line 2: rate_hz is 'inf': Input should be a finite number; or Input should be a valid "
        "integer, unable to parse string as an integer"
    )


def test_parse_settings__says_once_what_no_allowed_kind_takes() -> None:
    with pytest.raises(UsageError) as refused:
        parse_settings("\n\nrate_hz: -1.5\n", Rate, "s.yaml")
    (line,) = str(refused.value).splitlines()[1:]
    assert line.startswith("  line 3: rate_hz is -1.5: Input should be greater than 0; or ")


def test_parse_settings__twenty_levels_are_read() -> None:
    deep = "title: t\ncolumns: {a: " + "[" * 17 + "x" + "]" * 17 + "}\n"
    with pytest.raises(UsageError, match=r"line 2: columns\.a is .*valid string"):
        parse_settings(deep, Rate, "s.yaml")


def test_parse_settings__refuses_a_large_file_before_it_reads_it() -> None:
    with pytest.raises(UsageError, match=r"s\.yaml has 300,001 bytes, .* at most 262,144 bytes"):
        parse_settings(b"[" * 300_001, Rate, "s.yaml")


def test_parse_settings__bytes_are_utf8_with_or_without_a_mark() -> None:
    for data in ("title: \u00fc\n".encode(), "title: \u00fc\n".encode("utf-8-sig")):
        assert parse_settings(data, Rate, "s.yaml").title == "\u00fc"
    with pytest.raises(UsageError, match=r"s\.yaml is not UTF-8: byte 20 \(line 2\); save it as"):
        parse_settings("rate_hz: 1\ntitle: a \u00fc\n".encode("latin-1"), Rate, "s.yaml")


def test_parse_settings__takes_settings_that_the_file_does_not_state() -> None:
    assert parse_settings("rate_hz: 5\n", Rate, "s.yaml", title="given").title == "given"
