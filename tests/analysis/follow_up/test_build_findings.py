"""People who leave for what their index ECG shows; each case was worked out by hand."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from analysis.follow_up import EcgFinding, FollowUp, FollowUpRules, IndexRule, build_follow_up
from analysis.statistics.columns import TableRefused
from tests.analysis.follow_up.one_person import AF, CODES, END, build, hes, the_row

ALL = tuple(EcgFinding)
KNOWN = {"rhythm": "sinus", "conduction": "none", "qrs_duration_ms": 96.0}


def rules(*findings: str, **others: Any) -> FollowUpRules:
    return FollowUpRules((AF,), exclude_ecg=tuple(map(EcgFinding, findings)), **others)


@pytest.mark.parametrize(
    ("ecg", "finding"),
    [
        ({}, None),
        ({"rhythm": "paced"}, "paced"),
        ({"rhythm": " Paced "}, "paced"),
        ({"rhythm": "af_flutter"}, None),
        ({"conduction": "lbbb"}, "lbbb"),
        ({"conduction": "rbbb"}, "rbbb"),
        ({"conduction": "other"}, "other_block"),
        ({"qrs_duration_ms": 119.5}, None),
        ({"qrs_duration_ms": 120.0}, "qrs_120"),
        # The first of the closed list is counted.
        ({"rhythm": "paced", "conduction": "lbbb", "qrs_duration_ms": 160.0}, "paced"),
        ({"conduction": "lbbb", "qrs_duration_ms": 160.0}, "lbbb"),
        # What is unknown leaves nobody out.
        ({"rhythm": "unknown", "conduction": None, "qrs_duration_ms": None}, None),
        ({"qrs_duration_ms": float("nan")}, None),
        ({"qrs_duration_ms": float("inf")}, None),
        ({"rhythm": "unknown", "conduction": None, "qrs_duration_ms": 130.0}, "qrs_120"),
    ],
)
def test_exclude_ecg__each_finding_leaves_its_person_out(ecg: dict[str, Any], finding: str | None) -> None:
    row = the_row(ecgs=[KNOWN | ecg], rules=rules(*ALL))
    assert row["excluded"] == ("excluded_by_ecg" if finding else None)
    assert row["ecg_finding"] == finding


@pytest.mark.parametrize(
    ("asked", "ecg", "is_out"),
    [
        (("lbbb",), {"rhythm": "paced", "conduction": "rbbb", "qrs_duration_ms": 150.0}, False),
        (("rbbb",), {"conduction": "rbbb"}, True),
        (("qrs_120",), {"conduction": "lbbb"}, False),
        ((), {"rhythm": "paced", "conduction": "lbbb", "qrs_duration_ms": 200.0}, False),
    ],
)
def test_exclude_ecg__only_what_is_asked_counts(asked: tuple[str, ...], ecg: dict[str, Any], is_out: bool) -> None:
    row = the_row(ecgs=[KNOWN | ecg], rules=rules(*asked))
    assert row["excluded"] == ("excluded_by_ecg" if is_out else None)


def test_exclude_ecg__no_other_ecg_takes_the_place_of_the_index_ecg() -> None:
    second = KNOWN | {"ecg_id": "2", "recorded_at": "2017-01-01"}
    row = the_row(ecgs=[KNOWN | {"rhythm": "paced"}, second], rules=rules("paced"))
    assert (row["excluded"], row["ecg_id"]) == ("excluded_by_ecg", "1")
    later = KNOWN | {"ecg_id": "2", "recorded_at": "2017-01-01", "rhythm": "paced"}
    assert the_row(ecgs=[KNOWN, later], rules=rules("paced"))["excluded"] is None


def test_exclude_ecg__each_of_all_ecgs_is_judged_alone() -> None:
    later = KNOWN | {"ecg_id": "2", "recorded_at": "2017-01-01", "rhythm": "paced"}
    people = build(ecgs=[KNOWN, later], rules=rules("paced", index=IndexRule("all"))).people
    assert people["excluded"].tolist() == [None, "excluded_by_ecg"]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"ecgs": [KNOWN | {"rhythm": "paced", "lvm_pred_g": None}]}, "no_usable_ecg"),
        ({"ecgs": [KNOWN | {"rhythm": "paced"}], "person": {"region": None}}, "excluded_by_ecg"),
        ({"ecgs": [KNOWN | {"rhythm": "paced"}], "events": [hes("2010-01-01")]}, "excluded_by_ecg"),
    ],
)
def test_exclude_ecg__comes_after_no_usable_ecg_and_before_all_else(arguments: dict[str, Any], reason: str) -> None:
    assert the_row(rules=rules("paced"), **arguments)["excluded"] == reason


def cohort(ecgs: list[dict[str, Any]], asked: FollowUpRules, **changes: Any) -> FollowUp:
    """One ECG of each person a, b, c ..., all followed from 2016-01-01."""
    names = [chr(ord("a") + place) for place in range(len(ecgs))]
    of_all = {"recorded_at": "2016-01-01", "lvm_pred_g": 100.0}
    predictions = [
        of_all | {"participant_id": n, "ecg_id": n} | KNOWN | ecg for n, ecg in zip(names, ecgs, strict=True)
    ]
    records = pd.DataFrame([], columns=["participant_id", "date", "code", "system", "source"], dtype=object)
    ends = [("England", source, END) for source in ("hes", "death")]
    persons = pd.DataFrame({"participant_id": names, "region": "England", "death_date": None, "ltfu_date": None})
    return build_follow_up(
        predictions=pd.DataFrame(predictions),
        persons=persons.astype(object),
        events=records,
        ends=pd.DataFrame(ends, columns=["region", "source", "end_date"]),
        code_list=CODES,
        rules=asked,
        **changes,
    )


# a and b are paced, c has LBBB, d a wide QRS; of e the rhythm is unknown, of f also the block, of
# g the duration.
SEVEN: list[dict[str, Any]] = [
    {"rhythm": "paced"},
    {"rhythm": "paced", "conduction": None, "qrs_duration_ms": None},
    {"conduction": "lbbb", "rhythm": "unknown"},
    {"qrs_duration_ms": 140.0},
    {"rhythm": "unknown"},
    {"rhythm": None, "conduction": None},
    {"qrs_duration_ms": None},
]


def test_exclude_ecg__a_cohort_by_hand() -> None:
    found = cohort(SEVEN, rules("paced", "lbbb", "qrs_120"))
    flow = found.flow.set_index("reason")["n_people"]
    assert (flow["all"], flow["excluded_by_ecg"], flow["analysed"]) == (7, 4, 3)
    assert found.ecg_findings.to_dict() == {"a": "paced", "b": "paced", "c": "lbbb", "d": "qrs_120"}
    unknown = found.unknown_findings.set_index("finding")["n_people"]
    # Of c the rhythm is unknown, but c leaves for LBBB.
    assert unknown.to_dict() == {"paced": 2, "lbbb": 1, "qrs_120": 1}


def test_exclude_ecg__withdrawn_people_are_not_counted_as_unknown() -> None:
    found = cohort(SEVEN, rules("paced"), withdrawn=["f"])
    assert found.unknown_findings.to_numpy().tolist() == [["paced", 2, 2]]  # c and e
    assert len(cohort(SEVEN, rules()).unknown_findings) == 0


@pytest.mark.parametrize(
    ("asked", "ecg", "message"),
    [
        ("paced", {"conduction": "none"}, "no column rhythm; .*paced of exclude_ecg needs it"),
        ("other_block", {"rhythm": "sinus"}, "no column conduction; .*blocks of exclude_ecg need it"),
        ("qrs_120", {}, "no column qrs_duration_ms; .*qrs_120 of exclude_ecg needs it"),
        ("paced", {"rhythm": "AFIB"}, "rhythm of another word .*row 1: AFIB.*sinus, af_flutter, paced, other"),
        ("qrs_120", {"qrs_duration_ms": "wide"}, "qrs_duration_ms that is no number"),
    ],
)
def test_exclude_ecg__columns_that_do_not_say_are_refused(asked: str, ecg: dict[str, Any], message: str) -> None:
    with pytest.raises(TableRefused, match=message):
        build(ecgs=[ecg], rules=rules(asked))
