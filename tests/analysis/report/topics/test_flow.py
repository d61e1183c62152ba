"""The flow: it adds up, parts stand in their place, and no other cell reveals a hidden count."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from hypothesis import example, given, settings
from hypothesis import strategies as st

from analysis.disclosure.masking import HIDDEN, Masked, MaskingRule, mask
from analysis.follow_up import Exclusion
from analysis.report.document import ReadFigure, ReadTable
from analysis.report.topics.flow import aggregates, flow_aggregate, flow_cells, present
from tests.analysis.report.builders import flow_of, study_data

RULE = MaskingRule(10, 5)
UNROUNDED = MaskingRule(10, 1)
OFF = MaskingRule(0, 1)
EARLY = [str(reason) for reason in Exclusion][:-3]
LATE = [str(reason) for reason in Exclusion][-3:]
Counts = Mapping[str, int]


def people(early: Counts, *late: Counts) -> pd.DataFrame:
    """Follow-up of outcomes o0, o1 ...: counts of early reasons, and of each outcome's own."""
    n_all = sum(early.values()) + max(sum(one.values()) for one in late)
    parts = []
    for place, own in enumerate(late):
        n_of = {**early, **own}
        reasons = [reason for reason, n in n_of.items() for _ in range(n)]
        reasons += ["analysed"] * (n_all - len(reasons))
        table = pd.DataFrame({"participant_id": range(n_all), "excluded": reasons})
        parts.append(table.assign(outcome=f"o{place}"))
    everybody = pd.concat(parts, ignore_index=True)
    return everybody.assign(excluded=everybody["excluded"].where(everybody["excluded"] != "analysed"))


def shown(masked: Masked, outcome: str, reason: str, column: str = "n_people") -> str:
    place = (masked.rows["outcome"] == outcome) & (masked.rows["reason"] == reason)
    return str(masked.shown(column)[place].item())


def derivable(masked: Masked, column: str = "n_people") -> list[tuple[str, str]]:
    """Hidden cells whose value follows from those that are shown and what adds up.

    The unknowns are the counts; the equations are: everybody is the early reasons and the left,
    the left are each outcome's reasons and its analysed, and a cell that is shown as it is, not
    "200±10". A count follows if the equations leave only one value for it.
    """
    rows = masked.rows
    keys = [
        ("", reason) if reason == "left" else (outcome, reason)
        for outcome, reason in zip(rows["outcome"], rows["reason"], strict=True)
    ]
    unknowns = list(dict.fromkeys(keys))
    equations = []
    for outcome in rows["outcome"].unique():
        own = [key for key, o in zip(keys, rows["outcome"], strict=True) if o == outcome]
        total = ("", "all") if outcome == "" else ("", "left")
        equations.append([1.0 if u == total else -1.0 if u in own else 0.0 for u in unknowns])
    for key, base in zip(keys, masked.bases[column], strict=True):
        if base == 1:
            equations.append([1.0 if unknown == key else 0.0 for unknown in unknowns])
    matrix = np.array(equations)
    rank = np.linalg.matrix_rank(matrix)
    hidden = [key for key, is_hidden in zip(keys, masked.hidden[column], strict=True) if is_hidden]
    return [
        key
        for key in dict.fromkeys(hidden)
        if np.linalg.matrix_rank(np.vstack([matrix, [float(u == key) for u in unknowns]])) == rank
    ]


def test_flow__is_what_was_left_out_and_adds_up() -> None:
    made = flow_aggregate(people({"withdrawn": 11, "no_usable_ecg": 30}, {"prevalent": 40}, {"prevalent": 25}))
    rows = made.rows.set_index(["outcome", "reason"])["n_people"]
    assert rows["", "all"] == 81
    assert rows["", "withdrawn"] == 11
    assert rows["", "no_usable_ecg"] == 30
    assert rows["", "left"] == rows["o0", "left"] == rows["o1", "left"] == 40
    assert (rows["o0", "prevalent"], rows["o0", "analysed"]) == (40, 0)
    assert (rows["o1", "prevalent"], rows["o1", "analysed"]) == (25, 15)
    for outcome in ("", "o0", "o1"):
        total = {"": "all"}.get(outcome, "left")
        parts = rows[outcome].drop(total)
        assert parts.sum() == rows[outcome, total]


def test_flow__of_the_drawn_study_is_its_flow_table() -> None:
    data = study_data()
    rows = aggregates(data)[0].rows.set_index(["outcome", "reason"])["n_people"]
    for one in flow_of(data.follow_up).itertuples():
        outcome = "" if one.reason in ("all", *EARLY) else one.outcome
        assert rows[outcome, one.reason] == one.n_people


def test_flow__reasons_that_differ_between_outcomes_stand_with_the_outcome() -> None:
    first = people({"withdrawn": 12}, {"index_after_admin_end": 20, "prevalent": 50})
    second = people({"withdrawn": 12}, {"index_after_admin_end": 35, "prevalent": 35})
    both = pd.concat([first, second.assign(outcome="o1")])
    rows = flow_aggregate(both).rows.set_index(["outcome", "reason"])["n_people"]
    assert ("", "index_after_admin_end") not in rows.index
    assert (rows["o0", "index_after_admin_end"], rows["o1", "index_after_admin_end"]) == (20, 35)
    assert rows["", "left"] == 70


def test_flow__people_without_an_index_ecg_are_counted_by_the_step_that_they_fail() -> None:
    steps = pd.DataFrame(
        {
            "step": ["cohort", "usable_ecg", "min_history", "min_encounters", "index_rule"],
            "n_people": [100, 88, 76, 76, 63],
            "n_ecgs": [150, 150, 120, 120, 63],
        }
    )
    found = people({"withdrawn": 10, "no_usable_ecg": 37}, {"prevalent": 63})
    rows = flow_aggregate(found, steps).rows.set_index(["outcome", "reason"])["n_people"]
    own = rows[""][rows[""].index.str.startswith("no_usable_ecg")]
    assert own.to_dict() == {"no_usable_ecg": 12, "no_usable_ecg: history": 12, "no_usable_ecg: index rule": 13}
    assert rows["", "all"] == rows[""].drop("all").sum()


def test_flow__an_index_unknown_for_the_day_of_body_size_is_counted_apart() -> None:
    found = people({"missing_exposure": 34}, {"prevalent": 66})
    far = (found["excluded"] == "missing_exposure") & (found["participant_id"] < 14)
    rows = flow_aggregate(found.assign(body_size_far=far)).rows
    counts = rows.set_index(["outcome", "reason"])["n_people"]
    assert counts["", "missing_exposure: body size"] == 14
    assert counts["", "missing_exposure"] == 20


def test_flow__findings_of_index_ecgs_stand_in_the_place_of_their_reason() -> None:
    found = people({"excluded_by_ecg": 34}, {"prevalent": 66})
    findings = ["paced"] * 14 + ["qrs_120"] * 20 + ["lbbb"] + [None] * 65
    # The finding of somebody who leaves for another reason is not counted.
    found = found.assign(ecg_finding=findings)
    rows = flow_aggregate(found).rows.set_index(["outcome", "reason"])["n_people"]
    own = rows[""][rows[""].index.str.startswith("excluded_by_ecg")]
    assert own.to_dict() == {"excluded_by_ecg: paced": 14, "excluded_by_ecg: qrs_120": 20}
    assert rows["", "all"] == rows[""].drop("all").sum() == 100
    cells = flow_cells(mask(flow_aggregate(found), OFF), {"o0": "AF"}).set_index("")["AF"]
    assert cells["Index ECG paced"] == "14"
    assert cells["QRS of 120 ms or more on the index ECG"] == "20"


def test_unknown_findings__are_shown_where_the_study_asks_for_findings() -> None:
    unknown = pd.DataFrame({"finding": ["paced", "qrs_120"], "n_people": [3, 40], "n_ecgs": [3, 40]})
    data = study_data(unknown_findings=unknown)
    masked = {one.key: mask(one, RULE) for one in aggregates(data)}
    section = present(masked, data.about)
    assert section is not None
    cells = next(one for one in section.items if one.key == "unknown_findings")
    assert isinstance(cells, ReadTable)
    assert cells.cells.to_numpy().tolist() == [["Whether it is paced", HIDDEN, HIDDEN], ["Duration of QRS", "40", "40"]]


def test_flow__a_lone_early_reason_is_hidden_with_what_would_reveal_it() -> None:
    """43 less the 40 left, or 40 and 12 of the outcomes: with either shown the 3 would follow."""
    found = people({"withdrawn": 3}, {"prevalent": 40, "unknown_event_date": 0}, {"prevalent": 12})
    masked = mask(flow_aggregate(found), UNROUNDED)
    assert shown(masked, "", "withdrawn") == HIDDEN
    assert [shown(masked, "", "all"), shown(masked, "", "left")] != ["43", "40"]
    assert shown(masked, "", "left") == shown(masked, "o0", "left") == shown(masked, "o1", "left")
    assert derivable(masked) == []


numbers = st.sampled_from([0, 0, 1, 3, 9, 10, 11, 25, 60])
early_counts = st.fixed_dictionaries(dict.fromkeys(EARLY, numbers))
late_counts = st.fixed_dictionaries(dict.fromkeys(LATE, numbers))


@settings(max_examples=25, deadline=None)
@given(early_counts, st.lists(late_counts, min_size=1, max_size=4), st.sampled_from([0, 5, 12, 200]))
@example(dict.fromkeys(EARLY, 0) | {"withdrawn": 3}, [dict.fromkeys(LATE, 0)], 50)
def test_flow__no_hidden_count_follows_from_what_is_shown(
    early: dict[str, int], late: list[dict[str, int]], n_analysed: int
) -> None:
    late = [{**late[0], "prevalent": late[0]["prevalent"] + n_analysed}, *late[1:]]
    found = people(early, *late)
    if found.empty:
        return
    masked = mask(flow_aggregate(found), UNROUNDED)
    assert derivable(masked) == []
    small = flow_aggregate(found).rows["n_people"].between(1, 9)
    assert masked.hidden.loc[small, "n_people"].all()


def test_flow__ecgs_of_few_people_leave_them_every_small_number() -> None:
    """Where every ECG opens a follow-up: 12 ECGs of 9 people."""
    found = people({"lost_before_index": 9}, {"prevalent": 30, "unknown_event_date": 20})
    again = found[found["participant_id"] < 3]
    made = flow_aggregate(pd.concat([found, again]))
    exact = made.rows.set_index(["outcome", "reason"])
    assert exact.loc[("", "lost_before_index"), ["n_people", "n_ecgs"]].tolist() == [9, 12]
    masked = mask(made, RULE)
    assert shown(masked, "", "lost_before_index") == HIDDEN
    # What is shown of the ECGs may not be fewer than nine: the people could be none of those.
    ecgs = shown(masked, "", "lost_before_index", "n_ecgs")
    assert ecgs == HIDDEN or float(ecgs.partition("±")[0]) >= 10


def test_eligible_ecgs__are_shown_only_where_a_rule_leaves_some_out() -> None:
    data = study_data()
    assert [one.key for one in aggregates(data)] == ["flow"]
    steps = data.eligibility.assign(n_ecgs=[0, 900, 820, 790, 560])
    steps["n_people"] = [steps["n_people"][0], *[steps["n_people"][1]] * 4]
    made = aggregates(study_data(eligibility=steps))[1]
    assert dict(zip(made.rows["step"], made.rows["n_ecgs"], strict=True)) == {
        "usable_ecg": 900,
        "min_history": 80,
        "min_encounters": 30,
        "eligible": 790,
    }


def test_present__shows_masked_counts_in_words_and_a_diagram() -> None:
    data = study_data()
    masked = {one.key: mask(one, RULE) for one in aggregates(data)}
    section = present(masked, data.about)
    assert section is not None
    assert (section.key, section.title) == ("flow", "Who is analysed")
    table, figure = section.items
    assert isinstance(table, ReadTable)
    assert isinstance(figure, ReadFigure)
    assert list(table.cells.columns) == ["", "atrial fibrillation", "heart failure"]
    cells = table.cells.set_index("")
    exact = flow_of(data.follow_up).set_index(["outcome", "reason"])["n_people"]
    assert 0 < exact["af", "unknown_event_date"] < 10
    assert cells.loc["Outcome at an unknown date", "atrial fibrillation"] == HIDDEN
    n = exact["af", "analysed"]
    assert abs(int(cells.loc["Analysed", "atrial fibrillation"]) - n) <= 2
    assert cells.loc["Excluded by list"].tolist() == ["0", "0"]
    assert str(5 * round(n / 5)) in figure.alt
    assert any("of people and of ECGs" in note for note in table.notes)
    assert present({}, data.about) is None


def test_flow_cells__people_and_ecgs_are_both_shown_where_they_differ() -> None:
    found = people({"lost_before_index": 20}, {"prevalent": 30, "unknown_event_date": 20})
    both = pd.concat([found, found[found["participant_id"] < 15]])
    cells = flow_cells(mask(flow_aggregate(both), OFF), {"o0": "AF"}).set_index("")["AF"]
    assert cells["Lost before the index ECG"] == "20 (35 ECGs)"
    assert cells["Outcome on or before the index date"] == "30"
    assert cells["In any table"] == "70 (85 ECGs)"
