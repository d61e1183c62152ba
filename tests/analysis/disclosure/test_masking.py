"""Masking: what is hidden, what is rounded, and that sums do not give away what is hidden."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from analysis.disclosure.aggregates import Aggregate, Thinned, count, label, number, person_years, result, results
from analysis.disclosure.counts import YEARS, Count
from analysis.disclosure.masking import HIDDEN, NOT_APPLICABLE, MaskingRule, _kept, _suppressed, mask, mask_all
from tests.analysis.report.hunt import Hunter

RULE = MaskingRule(10, 5)
OFF = MaskingRule(0, 1)
COLUMNS = (
    label("group", "of people"),
    count("n_people", "people"),
    count("n_events", "events"),
    person_years("person_years", "follow-up", "n_people"),
    number("estimate", "of something", "n_events"),
)


def table(*rows: tuple[str, int, int, float, float], **options: object) -> Aggregate:
    frame = pd.DataFrame(rows, columns=[column.name for column in COLUMNS])
    return Aggregate("t", frame, COLUMNS, **options)  # type: ignore[arg-type]


def adding_up(column: str, rows: list[tuple[str, int, int, float, float]]) -> dict[str, list[Count]]:
    """Rows "all" and others, which are its parts."""
    all_people = Count("people")
    return {column: [all_people if name == "all" else all_people.at(("group", name)) for name, *_ in rows]}


@pytest.mark.parametrize(
    ("exact", "shown"), [(0, "0"), (1, HIDDEN), (9, HIDDEN), (10, "10"), (12, "10"), (13, "15"), (1234, "1,235")]
)
def test_mask__counts(exact: int, shown: str) -> None:
    masked = mask(table(("a", exact, 0, 1.0, 1.0)), RULE)
    assert masked.shown("n_people").tolist() == [shown]


def test_mask__a_count_that_is_not_applicable_is_a_dash() -> None:
    rows = pd.DataFrame([("a", None, 20, 1.0, 1.0)], columns=[c.name for c in COLUMNS])
    masked = mask(Aggregate("t", rows, COLUMNS), RULE)
    assert masked.shown("n_people").tolist() == [NOT_APPLICABLE]
    assert not masked.hidden["n_people"].any()


def test_mask__estimates_follow_the_count_that_they_need() -> None:
    masked = mask(table(("a", 500, 9, 100.0, 1.23456), ("b", 500, 10, 100.0, 1.23456)), RULE)
    assert masked.hidden["estimate"].tolist() == [True, False]
    assert masked.rows["estimate"].iloc[1] == 1.23  # three digits


def test_mask__estimates_are_hidden_also_where_there_is_none() -> None:
    """Blank beside "*" would show that there are too few even for an estimate."""
    masked = mask(table(("a", 500, 9, 100.0, 1.2), ("b", 500, 1, 100.0, np.nan)), RULE)
    assert masked.hidden["estimate"].tolist() == [True, True]
    masked = mask(table(("a", 500, 0, 100.0, np.nan)), RULE)
    assert masked.hidden["estimate"].tolist() == [False]


def test_mask__estimates_are_hidden_with_a_partner_too() -> None:
    rows = [("all", 900, 24, 0, 1.5), ("a", 500, 15, 0, 1.5), ("b", 400, 9, 0, 1.5)]
    counts = adding_up("n_events", rows)
    masked = mask(table(*rows, counts=counts), MaskingRule(10, 1))  # type: ignore[arg-type]
    assert masked.hidden["n_events"].sum() >= 2
    assert (masked.hidden["estimate"] == masked.hidden["n_events"]).all()


def test_mask__person_years_are_rounded_and_hidden_with_their_people() -> None:
    masked = mask(table(("a", 9, 0, 44.0, 1.0), ("b", 50, 0, 244.9, 1.0)), RULE)
    assert masked.shown("person_years").tolist() == [HIDDEN, "240"]


def test_mask__person_years_are_rounded_to_what_a_few_people_contribute() -> None:
    one = table(("b", 5000, 100, 40_123.0, 1.0))
    masked = mask(replace(one, counts={"person_years": [Count("x").of(YEARS)]}), RULE)
    assert masked.shown("person_years").tolist() == ["40,100±25"]  # five people, eight years each


def test_mask__off_shows_everything_as_it_is() -> None:
    masked = mask(table(("a", 3, 1, 44.4, 1.23456)), OFF)
    assert masked.rows.iloc[0].tolist() == ["a", 3, 1, 44.4, 1.23456]
    assert not masked.hidden.to_numpy().any()


def test_mask__a_lone_hidden_part_cannot_be_found_by_subtraction() -> None:
    rows = [("all", 163, 0, 0, 0), ("a", 100, 0, 0, 0), ("b", 60, 0, 0, 0), ("c", 3, 0, 0, 0)]
    counts = adding_up("n_people", rows)
    masked = mask(table(*rows, counts=counts), MaskingRule(10, 1))  # type: ignore[arg-type]
    assert masked.shown("n_people").tolist() == ["160±10", "100", "60", HIDDEN]
    # Rounded to 5, the difference of 165, 100 and 60 can be 1 to 9 as it is.
    masked = mask(table(*rows, counts=counts), RULE)  # type: ignore[arg-type]
    assert masked.shown("n_people").tolist() == ["165", "100", "60", HIDDEN]


def test_mask__large_counts_are_rounded_more_rather_than_hidden() -> None:
    rows = [("all", 50_007, 0, 0, 0), ("a", 50_004, 0, 0, 0), ("c", 3, 0, 0, 0)]
    counts = adding_up("n_people", rows)
    masked = mask(table(*rows, counts=counts), RULE)  # type: ignore[arg-type]
    assert masked.shown("n_people").tolist() == ["50,000±10", "50,000±10", HIDDEN]
    assert masked.rows["n_people"].iloc[0] == 50_000
    assert masked.coarse("n_people") == ["±10", "±10", ""]


def test_mask__a_count_of_two_tables_is_hidden_in_both() -> None:
    """The partner that the first table needs would be shown by the second."""
    everybody = Count("people")
    who = {name: everybody.at(("group", name)) for name in "abc"}
    first = [("all", 154, 0, 0, 0), ("a", 100, 0, 0, 0), ("b", 50, 0, 0, 0), ("c", 4, 0, 0, 0)]
    one = table(*first, counts={"n_people": [everybody, *who.values()]})  # type: ignore[arg-type]
    other = replace(
        table(("b", 50, 0, 0, 0), ("d", 50, 0, 0, 0)), key="u", counts={"n_people": [who["b"], Count("others")]}
    )
    masked = mask_all([one, other], MaskingRule(10, 1))
    t, u = masked["t"].shown("n_people").tolist(), masked["u"].shown("n_people").tolist()
    assert t[3] == HIDDEN
    assert u[0] == t[2]
    assert u[1] == "50"


def test_mask__a_part_of_nobody_protects_nothing() -> None:
    rows = [("all", 103, 0, 0, 0), ("a", 100, 0, 0, 0), ("b", 0, 0, 0, 0), ("c", 3, 0, 0, 0)]
    counts = adding_up("n_people", rows)
    masked = mask(table(*rows, counts=counts), MaskingRule(10, 1))  # type: ignore[arg-type]
    texts = masked.shown("n_people").tolist()
    assert texts[2:] == ["0", HIDDEN]
    assert HIDDEN in texts[:2] or masked.coarse("n_people")[0] or masked.coarse("n_people")[1]


def test_mask__what_tables_say_of_a_count_must_agree() -> None:
    one = table(("a", 100, 0, 0, 0), counts={"n_people": [Count("people")]})  # type: ignore[arg-type]
    other = replace(one, key="u", rows=one.rows.assign(n_people=90))
    tables = [_kept(each, RULE) for each in (one, other)]
    assert _suppressed(tables, RULE, {}).wrong == ["people:  is 100, and 90 in u.n_people.0"]


def test_mask__columns_that_add_up() -> None:
    columns = (label("group", ""), count("all", ""), count("yes", ""), count("no", ""))
    rows = pd.DataFrame([("a", 50, 4, 46)], columns=["group", "all", "yes", "no"])
    who = Count("people")
    counts = {"all": [who], "yes": [who.part("answer", "yes")], "no": [who.part("answer", "no")]}
    masked = mask(Aggregate("t", rows, columns, counts=counts), MaskingRule(10, 1))
    assert masked.shown("yes").tolist() == [HIDDEN]
    assert "50" not in masked.shown("all").tolist() or masked.shown("no").tolist() == [HIDDEN]


def test_mask__numbers_of_a_classification_are_hidden_together() -> None:
    rows = [("a", 500, 3, 0, 1.5), ("b", 500, 30, 0, 1.2)]
    masked = mask(table(*rows, together=()), RULE)  # type: ignore[arg-type]
    assert masked.hidden["estimate"].all()


def test_mask__bins_of_few_people_are_dropped() -> None:
    rows = [("a", 3, 0, 0, 0), ("b", 30, 0, 0, 0)]
    masked = mask(table(*rows, small="drop"), RULE)  # type: ignore[arg-type]
    assert masked.rows["group"].tolist() == ["b"]


def test_mask__a_curve_moves_in_steps_of_k_events() -> None:
    events = [0, 1, 5, 9, 10, 12, 19, 21, 40, 41]
    rows = [("a", 500, n, 0.0, n / 500) for n in events]
    thinned = Thinned("n_events", ("group",))
    masked = mask(table(*rows, thinned=thinned), RULE)  # type: ignore[arg-type]
    assert masked.rows["estimate"].tolist() == [0.0, 0.02, 0.042, 0.08]


def test_mask__a_curve_is_whole_with_masking_off() -> None:
    events = [0, 1, 5, 9, 10, 12, 19, 21, 40, 41]
    rows = [("a", 500, n, 0.0, n / 500) for n in events]
    thinned = Thinned("n_events", ("group",))
    whole = mask(table(*rows, thinned=thinned), OFF)  # type: ignore[arg-type]
    assert len(whole.rows) == len(events)


def test_results__a_yes_no_exposure_needs_events_in_both_arms() -> None:
    row = result(
        "hazard_ratios",
        "hazard ratio",
        n_people=900,
        n_ecgs=900,
        n_events=60,
        n_events_fewest=4,
        estimate=2.0,
        se=0.3,
        lo=1.1,
        hi=3.6,
        p=0.02,
    )
    masked = mask(results("hazard_ratios", [row]), RULE)
    assert masked.hidden.loc[0, ["estimate", "se", "lo", "hi", "p"]].all()
    assert masked.shown("n_events").tolist() == ["60"]


def test_results__a_main_estimate_stays_when_those_of_a_subgroup_are_hidden() -> None:
    known = {"n_people": 900, "n_ecgs": 900, "estimate": 1.5, "outcome": "af"}
    rows = [
        result("subgroups", "hazard ratio", n_events=64, **known),
        result("subgroups", "hazard ratio", n_events=60, strata="Sex", level="female", **known),
        result("subgroups", "hazard ratio", n_events=4, strata="Sex", level="male", **known),
    ]
    masked = mask(results("subgroups", rows), RULE)
    assert masked.hidden["estimate"].tolist() == [False, True, True]
    assert masked.shown("n_events").tolist() == ["65", "60", HIDDEN]


def test_result__refuses_a_name_that_is_no_column() -> None:
    with pytest.raises(ValueError, match=r"'hr'.* are no columns of the results"):
        result("x", "y", hr=1.0)


@pytest.mark.parametrize("value", [-1.0, 2.5])
def test_aggregate__refuses_what_is_no_count(value: float) -> None:
    with pytest.raises(ValueError, match="count 'n_people' of 't' is negative or not whole"):
        table(("a", value, 0, 1.0, 1.0))  # type: ignore[arg-type]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.lists(st.one_of(st.integers(0, 12), st.integers(13, 400)), min_size=3, max_size=3), min_size=2, max_size=5
    ),
    st.sampled_from([1, 5]),
)
@example([[0, 1, 2], [3, 17, 47]], 5)
@example([[0, 1, 0], [13, 7, 47]], 5)
def test_mask__no_small_cell_of_a_table_can_be_found(counts: list[list[int]], base: int) -> None:
    """Every value of 1 to 9 is possible for each; by whole numbers now and then one or two less."""
    parts = pd.DataFrame(counts, columns=["x", "y", "z"])
    parts["all"] = parts.sum(axis=1)
    parts.loc[len(parts)] = parts.sum()
    names = [f"g{i}" for i in range(len(counts))] + ["all"]
    rows = parts.assign(group=names)[["group", "all", "x", "y", "z"]]
    columns = (label("group", ""), *(count(name, "") for name in ("all", "x", "y", "z")))
    groups = [Count("people") if name == "all" else Count("people").part("row", name) for name in names]
    counted = {name: groups if name == "all" else [one.part("column", name) for one in groups] for name in "xyz"}
    masked = mask(Aggregate("t", rows, columns, counts=counted | {"all": groups}), MaskingRule(10, base))
    exact = rows[["all", "x", "y", "z"]].to_numpy()
    hidden = masked.hidden[["all", "x", "y", "z"]].to_numpy()
    assert hidden[(exact > 0) & (exact < 10)].all()
    hunter = Hunter(10, base)
    names_of = ["all", "x", "y", "z"]
    for place, group in enumerate(names):
        for name, text in zip(names_of, (masked.shown(n).iloc[place] for n in names_of), strict=True):
            hunter.see((group, name), text.replace(",", ""))
        hunter.adds_up((group, "all"), [(group, name) for name in ("x", "y", "z")])
    for name in names_of:
        hunter.adds_up(("all", name), [(group, name) for group in names[:-1]])
    thoughts = hunter.think()
    small = [(names[i], names_of[j]) for i, j in np.argwhere((exact > 0) & (exact < 10))]
    assert thoughts.is_possible()
    for key in small[:2]:
        low, high = thoughts.range(key)
        assert low <= 1
        assert high >= 9
        low, high = thoughts.whole_range(key)
        assert min(high, 9) - low >= 6


def test_results__warnings_do_not_quote_exact_counts_or_values() -> None:
    texts = "78 events for 8 parameters, fewer than 10 each: unstable; blood pressure may mediate"
    row = result("x", "y", warnings=f"{texts}; column 'a' has 3 values (row 5: 2.3)")
    masked = mask(results("x", [row]), RULE).rows["warnings"].iloc[0]
    assert not any(letter.isdigit() for letter in masked)
    assert "blood pressure may mediate" in masked
    assert "fewer events than ten" in masked
    assert mask(results("x", [row]), OFF).rows["warnings"].iloc[0] == row["warnings"]
