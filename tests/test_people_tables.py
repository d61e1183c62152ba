"""One table, one answer: every command reads the same from the same table of people."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import pytest

from tests.lvm_core.tables.people_cases import CASES, CMR_CASES, LIST_CASES, Case, CmrCase, ListCase, right_people
from tests.people_answers import CMR_COMMANDS, COLUMNS, LIST_COMMANDS, Answer, file_answers, people_answers


def _name(case: Case | ListCase | CmrCase) -> str:
    return case.name


def _same(answers: dict[str, Answer]) -> Answer:
    """Return the answer that all commands give."""
    (first, *others) = answers.values()
    for other in others:
        if isinstance(first, str):
            assert isinstance(other, str)
        else:
            assert other == first
    return first


@pytest.mark.parametrize("case", CASES, ids=_name)
def test_participants__every_command_gives_the_right_answer(case: Case, tmp_path: Path) -> None:
    answers = people_answers(case, tmp_path)
    if case.read_by_studies:
        assert not isinstance(answers.pop("analyse"), str)
    answer = _same(answers)
    message = case.refused or case.judged
    if message is not None:
        for refusal in answers.values():
            assert isinstance(refusal, str)
            assert message in refusal
        return
    assert not isinstance(answer, str), answer
    right = sorted(tuple(row.get(name) for name in COLUMNS) for row in right_people(case))
    assert len(answer) == len(right)
    for row, expected in zip(answer, right, strict=True):
        assert row[:3] == expected[:3]
        _assert_close(row[3:], expected[3:])


def _assert_close(row: tuple[Any, ...], expected: tuple[Any, ...]) -> None:
    for value, right in zip(row, expected, strict=True):
        assert value == (None if right is None else pytest.approx(right, rel=1e-5))


@pytest.mark.parametrize("case", LIST_CASES, ids=_name)
def test_lists__every_command_leaves_out_the_same_people(case: ListCase, tmp_path: Path) -> None:
    answers = file_answers(case.name, case.data, tmp_path, LIST_COMMANDS)
    answer = _same(answers)
    if case.refused is None:
        assert answer == sorted((person,) for person in case.people)
    else:
        for refusal in answers.values():
            assert case.refused in refusal


@pytest.mark.parametrize("case", CMR_CASES, ids=_name)
def test_cmr__every_command_reads_the_same_examinations(case: CmrCase, tmp_path: Path) -> None:
    answers = file_answers(case.name, case.data, tmp_path, CMR_COMMANDS)
    answer = _same(answers)
    if case.refused is None:
        right = [(person, None if day is None else dt.date.fromisoformat(day), mass) for person, day, mass in case.rows]
        assert answer == right
    else:
        for refusal in answers.values():
            assert case.refused in refusal
