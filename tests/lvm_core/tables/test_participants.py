from __future__ import annotations

import datetime as dt

import numpy as np
import pytest

from lvm_core.errors import RejectReason
from lvm_core.signal.quality import QualityFlag
from lvm_core.tables import (
    ParticipantsLayout,
    ParticipantTable,
    demographics_problem,
    judge_people,
    read_people,
    unknown_demographics,
)

NOON = dt.datetime(2020, 6, 15, 12)


def _table(text: str, **layout: str) -> ParticipantTable:
    settings = ParticipantsLayout.model_validate(layout)
    return ParticipantTable.of(read_people(text.encode(), "p.csv", settings))


def _problems(columns: str, *rows: str) -> str:
    lines = [f"participant_id,{columns}"] + [f"p{i},{row}" for i, row in enumerate(rows)]
    return "; ".join(judge_people(_table("\n".join(lines) + "\n").arrow).problems)


@pytest.mark.parametrize(
    ("columns", "row", "problem"),
    [
        ("age_years", "740", "the median of age_years is 740 years, .* months or days"),
        ("age_years", "22000", "is it in days"),
        ("age_years", "9", "are these children"),
        ("height_cm,weight_kg", "66,80", "inches"),
        ("height_cm", "1700", "is it another quantity or unit"),
        ("height_cm", "1.7", "metres"),
        ("weight_kg", "70000", "as pounds or grams"),
        ("weight_kg", "170", "pounds"),
        ("bmi_kg_m2", "60", "the median of bmi_kg_m2 is 60"),
    ],
)
def test_judge_people__likely_causes(columns: str, row: str, problem: str) -> None:
    import re

    assert re.search(problem, _problems(columns, *[row] * 5))
    assert _problems(columns, *[row] * 4) == ""  # too few people to judge


def test_judge_people__limits_are_included() -> None:
    assert _problems("bmi_kg_m2,age_years", *["18,18"] * 5) == ""
    assert _problems("bmi_kg_m2,age_years", *["40,100"] * 5) == ""
    assert "bmi_kg_m2" in _problems("bmi_kg_m2,age_years", *["40.1,100"] * 5)


def test_judge_people__zero_and_negative_sizes_are_no_sizes() -> None:
    assert "height_cm" in _problems("height_cm,weight_kg", *["0,-1"] * 5)


def test_judge_people__share_of_women() -> None:
    table = _table("participant_id,sex\na,female\nb,male\nc,\nd,female\n")
    assert judge_people(table.arrow).share_women == pytest.approx(2 / 3)
    assert judge_people(_table("participant_id,age_years\na,60\n").arrow).share_women is None


def test_judge_people__wrong_order_of_the_sexes_is_rare_by_chance() -> None:
    # Normal heights, 13 cm apart with 7 and 6.5 cm spread: what the limit of five people costs.
    rng = np.random.default_rng(20261129)
    men = np.median(rng.normal(175, 7, (20000, 5)), axis=1)
    women = np.median(rng.normal(162, 6.5, (20000, 5)), axis=1)
    assert (men < women).mean() < 1 / 150


def test_join__cause_of_an_unknown_bmi_is_said() -> None:
    table = _table(
        "participant_id,age_years,sex,height_cm,weight_kg\n"
        "a,60,male,1.6,80\nb,60,male,170,\nc,60,male,1.6,900\nd,60,male,170,80\n"
    )
    people = table.join(list("abcd"), list("abcd"), [NOON] * 4)
    details = [demographics_problem(people, i) for i in range(4)]
    assert [None if d is None else d.reason for d in details] == [
        RejectReason.BMI_MISSING,
        RejectReason.BMI_MISSING,
        RejectReason.BMI_MISSING,
        None,
    ]
    messages = [d.message for d in details if d is not None]
    assert messages[0].endswith("height_cm is 1.6, expected 100 to 250; BMI cannot be computed")
    assert messages[1].endswith("weight_kg is not known; BMI cannot be computed")
    assert "height_cm is 1.6, expected 100 to 250; weight_kg is 900" in messages[2]


@pytest.mark.parametrize(
    ("birth", "recorded", "cause"),
    [
        ("1900-01-01", NOON, "birth_date 1900-01-01 is a placeholder for an unknown date"),
        ("1950-05-05", None, "the date of the recording is not known"),
        ("1950-05-05", dt.datetime(1900, 1, 1), "the date of the recording is not known"),
        ("2030-01-01", NOON, "birth_date lies after the date of the recording"),
        ("", NOON, "neither age_years nor birth_date is known"),
    ],
)
def test_join__cause_of_an_unknown_age_is_said(birth: str, recorded: dt.datetime | None, cause: str) -> None:
    table = _table(f"participant_id,sex,bmi_kg_m2,birth_date\na,male,25,{birth}\n")
    problem = demographics_problem(table.join(["e"], ["a"], [recorded]), 0)
    assert problem is not None
    assert problem.reason is RejectReason.AGE_MISSING
    assert cause in problem.message


def test_join__placeholder_birth_leaves_the_given_age() -> None:
    table = _table("participant_id,birth_date,age_years\n1,1909-09-09,62\n2,1950-05-05,60\n")
    joined = table.join(["e1", "e2"], ["1", "2"], [NOON, NOON])
    assert joined.age_years.tolist() == [62.0, 70.0]  # 1950-05-05 to 2020-06-15


def test_join__assumed_birth_days_are_flagged_and_placeholder_months_unknown() -> None:
    text = "participant_id,birth_date,age_years\na,1950-06,\nb,1900-01,71\n"
    table = _table(text, births="month_and_year")
    joined = table.join(["e1", "e2"], ["a", "b"], [NOON, NOON])
    assert joined.age_years.tolist() == [70.0, 71.0]  # the 15th of June: seventy that day
    assert joined.flags == [(QualityFlag.BIRTH_DAY_ASSUMED,), ()]


def test_demographics_problem__order_and_unknown_people() -> None:
    nobody = unknown_demographics(["a"])
    problem = demographics_problem(nobody, 0)
    assert problem is not None
    assert problem.reason is RejectReason.PARTICIPANT_MISSING
    table = _table("participant_id,sex,age_years\na,,60\nb,male,\nc,male,730\n")
    people = table.join(list("abc"), list("abc"), [NOON] * 3)
    found = [demographics_problem(people, i) for i in range(3)]
    assert [p.reason for p in found if p is not None] == [
        RejectReason.SEX_UNKNOWN,
        RejectReason.AGE_MISSING,
        RejectReason.AGE_OUT_OF_RANGE,
    ]


def test_participant_table__digest_ignores_order_and_file_format() -> None:
    one = _table("participant_id,sex\na,male\nb,female\n")
    other = _table("participant_id;sex\nb;F\na;M\n")
    assert one.content_sha256 == other.content_sha256
    assert one.content_sha256 != _table("participant_id,sex\na,male\nb,male\n").content_sha256
    assert ParticipantTable.from_parquet(one.to_parquet()).content_sha256 == one.content_sha256


def test_participant_table__knows_its_keys_and_what_nobody_has() -> None:
    table = _table("participant_id,ecg_id,sex\na,,male\nb,e1,female\n")
    assert table.keys == ("e1", "a")
    assert [table.knows_any(*keys) for keys in ((["e1"], []), ([], ["a"]), (["a"], ["b"]))] == [True, True, False]
    absent = [table.n_without_ecg(*keys) for keys in ((["e1"], ["a"]), (["e1"], []), ([], ["a"]), (["a"], ["e1"]))]
    assert absent == [len(table) - 2, len(table) - 1, len(table) - 1, len(table)]
    assert table.unknown_throughout == ["age (age_years or birth_date)", "BMI (bmi_kg_m2, or height_cm and weight_kg)"]


def test_with_keys__rows_are_found_by_the_new_keys() -> None:
    table = _table("ecg_id,participant_id,age_years\ne,p,50\n,q,60\n").with_keys(str.upper, lambda key: f"{key}!")
    assert table.rows_of(["E", "e", "x"], [None, None, "q!"]).tolist() == [0, -1, 1]
    assert table.join(["E"], [None], [NOON]).participant_id == ["p!"]
    assert set(table.keys) == {"E", "q!"}


def test_with_stale_ages__keeps_marks_that_were_there() -> None:
    table = _table("ecg_id,participant_id,age_years\n,p,50\n,q,60\n,r,70\n")
    year = {"p": (NOON, NOON + dt.timedelta(days=366)), "q": (NOON, NOON + dt.timedelta(days=365))}
    marked = table.with_stale_ages(year).with_stale_ages({"r": (NOON, NOON + dt.timedelta(days=900))})
    flags = marked.join(["a", "b", "c"], ["p", "q", "r"], [NOON] * 3).flags
    assert [QualityFlag.AGE_NOT_AT_RECORDING in one for one in flags] == [True, False, True]
