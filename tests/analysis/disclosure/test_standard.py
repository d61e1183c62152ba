"""The release rule `standard`: by hand, and by a reader who subtracts in random tables."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations, product
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis.disclosure.aggregates import Aggregate, Thinned, Ticks, count, label, number, result, results
from analysis.disclosure.counts import Count
from analysis.disclosure.masking import MaskingRule, mask, mask_all
from analysis.disclosure.release import ReleaseRule

K = 10
RULE = MaskingRule(K, 1, ReleaseRule.STANDARD)
ALL = Count("people of a test")


def table(key: str, counts: dict[str, tuple[Count, int]]) -> Aggregate:
    """A row for each count."""
    rows = pd.DataFrame({"group": list(counts), "n_people": [n for _, n in counts.values()]})
    columns = (label("group", "of people"), count("n_people", "people"))
    return Aggregate(key, rows, columns, counts={"n_people": [one for one, _ in counts.values()]})


def shown(key: str, *tables: Aggregate, rule: MaskingRule = RULE) -> dict[str, str]:
    one = mask_all(tables, rule)[key]
    return dict(zip(one.rows["group"], one.shown("n_people"), strict=True))


def parts(name: str, *sizes: int, of: Count = ALL) -> dict[str, tuple[Count, int]]:
    return {f"{name} {i}": (of.part(name, i), n) for i, n in enumerate(sizes)}


def test_standard__hides_the_smallest_partner_and_nothing_more() -> None:
    own = {"all": (ALL, 100)} | parts("reason", 4, 12, 30, 54)
    assert shown("flow", table("flow", own)) == {
        "all": "100",
        "reason 0": "*",
        "reason 1": "*",
        "reason 2": "30",
        "reason 3": "54",
    }


def test_standard__two_small_ones_that_are_small_together_need_a_third() -> None:
    own = {"all": (ALL, 100)} | parts("reason", 2, 3, 30, 65)
    assert [one for one, text in shown("flow", table("flow", own)).items() if text == "*"] == [
        "reason 0",
        "reason 1",
        "reason 2",
    ]


def test_standard__ten_and_zero_are_shown() -> None:
    assert shown("flow", table("flow", {"all": (ALL, 100)} | parts("reason", 10, 90, 0)))["reason 0"] == "10"


def test_standard__a_difference_of_two_tables_is_small() -> None:
    """100 people, 96 with a known weight: 4 have none, though no table says so."""
    complete = ALL.complete("weight")
    one, other = table("all", {"all": (ALL, 100)}), table("models", {"complete": (complete, 96)})
    texts = [*shown("all", one, other).values(), *shown("models", one, other).values()]
    assert sorted(texts) in (["*", "100"], ["*", "96"])


def test_standard__a_group_follows_although_some_might_be_unknown() -> None:
    """118 less 117 without LVH: 1 with LVH, since of all 500 people it is known."""
    events = ALL.at(("status", "outcome"))
    people = {"all": (ALL, 500), "LVH": (ALL.level("lvh", "LVH"), 40), "no LVH": (ALL.level("lvh", "no LVH"), 460)}
    rates = {
        "all": (events, 118),
        "LVH": (events.level("lvh", "LVH"), 1),
        "no LVH": (events.level("lvh", "no LVH"), 117),
    }
    texts = shown("rates", table("people", people), table("rates", rates))
    assert texts["LVH"] == "*"
    assert [texts["all"], texts["no LVH"]].count("*") == 1


def test_standard__base_rounds_what_is_shown() -> None:
    own = {"all": (ALL, 103)} | parts("reason", 4, 12, 30, 57)
    rule = MaskingRule(K, 5, ReleaseRule.STANDARD)
    texts = shown("flow", table("flow", own), rule=rule)
    assert (texts["all"], texts["reason 3"], texts["reason 0"]) == ("105", "55", "*")


def ratio(measure: str, **changes: Any) -> dict[str, Any]:
    given: dict[str, Any] = {"n_people": 500, "n_ecgs": 500, "n_events": 20, "estimate": 1.234567, "se": 0.1234567}
    return result("hazard_ratios", measure, **(given | changes))


@pytest.mark.parametrize(
    ("row", "is_shown"),
    [
        (ratio("hazard ratio"), True),
        (ratio("hazard ratio", n_events=3), True),
        (ratio("hazard ratio", n_events=30, n_events_fewest=1), True),
        (ratio("hazard ratio", n_events=30, n_events_fewest=1, n_people_fewest=9), False),
        (ratio("hazard ratio", n_events=30, n_events_fewest=1, n_people_fewest=10), True),
        (ratio("hazard ratio", n_people=9, n_ecgs=9), False),
        (ratio("concordance", n_events=9), False),
        (ratio("concordance", n_events=10), True),
        (ratio("Gray's test, chi-square", n_events=30, n_events_fewest=9), False),
    ],
)
def test_standard__coefficients_stay_and_tests_of_few_events_go(row: dict[str, Any], *, is_shown: bool) -> None:
    masked = mask(results("x", [row]), RULE)
    assert masked.rows["estimate"].notna().item() is is_shown
    if is_shown:
        assert masked.rows["estimate"].item() == 1.234567  # nothing is rounded
    assert masked.hidden["estimate"].item() is not is_shown


def curve(group: str, n: int, n_events: int) -> pd.DataFrame:
    """One event a day."""
    days = np.arange(n_events + 1)
    return pd.DataFrame(
        {
            "group": group,
            "years": days / 365.25,
            "incidence": days / n,
            "n_people": n,
            "n_at_risk_before": n - np.maximum(days - 1, 0),
            "n_events": days,
        }
    )


def test_standard__curves_keep_their_steps_and_end_where_few_are_at_risk() -> None:
    columns = (
        label("group", "of people"),
        label("years", "time"),
        number("incidence", "so far", "n_people"),
        count("n_people", "people"),
        count("n_at_risk_before", "people at risk"),
        count("n_events", "events so far"),
    )
    rows = pd.concat([curve("long", 30, 28), curve("few", 50, 9)], ignore_index=True)
    thinned = Thinned("n_events", ("group",), at_risk="n_at_risk_before", times="years", step=0.05)
    masked = mask(Aggregate("curves", rows, columns, thinned=thinned), RULE).rows
    long = masked[masked["group"] == "long"]
    # Of 30 people 10 are left after 20 events: the 21st event is the last one shown.
    np.testing.assert_array_equal(long["incidence"], np.arange(22) / 30)
    np.testing.assert_array_equal(long["years"], np.arange(22) / 365.25)
    assert long["n_events"].isna().all()  # other tables have what may be shown
    assert masked.loc[masked["group"] == "few", "incidence"].isna().all()


def numbers_at_risk(*rows: tuple[str, int, int, int, int]) -> Aggregate:
    """Rows of group, year, people still there, censored, with the event."""
    table = pd.DataFrame(rows, columns=["group", "years", "n_at_risk", "n_censored", "n_events"]).assign(by="LVH")
    columns = (
        label("group", "of people"),
        label("years", "time"),
        count("n_at_risk", "there"),
        count("n_censored", "censored before"),
        count("n_events", "events before"),
        label("by", "classification"),
    )
    ticks = Ticks("n_at_risk", ("n_censored", "n_events"), "years", "group", ("by",))
    return Aggregate("at_risk", table, columns, ticks=ticks)


def test_standard__numbers_at_risk_are_left_out_where_few_left_since_the_last() -> None:
    """Of 100 with LVH, 3, 8, 12, 60 and 95 have left after 1 to 5 years; 12 - 3 is too few."""
    gone = {"LVH": (0, 3, 8, 12, 60, 95), "no LVH": (0, 50, 100, 200, 300, 400)}
    sizes = {"LVH": 100, "no LVH": 900}
    rows = [
        (group, year, sizes[group] - n, n // 2, n - n // 2) for group, own in gone.items() for year, n in enumerate(own)
    ]
    masked = mask(numbers_at_risk(*rows), RULE).rows
    lvh = masked[masked["group"] == "LVH"]
    # 5 people are left at the end, which is too few; the other group has the same times.
    assert dict(zip(lvh["years"], lvh["n_at_risk"], strict=True)) == {0: 100, 3: 88, 4: 40}
    assert masked.loc[masked["group"] == "no LVH", "years"].tolist() == [0, 3, 4]
    # 6 events before year 3: no reasons are given at any time.
    assert masked[["n_censored", "n_events"]].isna().all(axis=None)


def test_standard__reasons_stay_where_each_has_enough_people_between_times() -> None:
    rows = [("all", 0, 100, 0, 0), ("all", 1, 60, 30, 10), ("all", 2, 20, 60, 20)]
    masked = mask(numbers_at_risk(*rows), RULE).rows
    assert masked["n_events"].tolist() == [0, 10, 20]
    assert masked["n_censored"].tolist() == [0, 30, 60]


def random_tables(seed: int) -> tuple[list[Aggregate], dict[str, int]]:
    """Counts of a random cohort by three classifications, each two of them crossed in a table."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(60, 600))
    sizes = {"sex": 2, "band": 4, "group": 3}
    drawn = {name: rng.choice(size, n, p=rng.dirichlet(np.full(size, 0.7))) for name, size in sizes.items()}
    made, exact = [], {"all": n}
    for a, b in combinations(sizes, 2):
        own: dict[str, tuple[Count, int]] = {"all": (ALL, n)}
        for name in (a, b):
            for value in range(sizes[name]):
                own[f"{name}={value}"] = (ALL.part(name, value), int((drawn[name] == value).sum()))
        for x, y in product(range(sizes[a]), range(sizes[b])):
            both = int(((drawn[a] == x) & (drawn[b] == y)).sum())
            own[f"{a}={x}, {b}={y}"] = (ALL.part(a, x).part(b, y), both)
        exact |= {key: size for key, (_, size) in own.items()}
        made.append(table(f"{a}_{b}", own))
    return made, exact


@pytest.mark.parametrize("seed", range(25))
def test_standard__a_reader_who_subtracts_finds_no_small_count(seed: int) -> None:
    """Solve everything that adds up at once, with numpy: no small count has one value only."""
    tables, exact = random_tables(seed)
    masked = mask_all(tables, RULE)
    texts = {g: t for one in masked.values() for g, t in zip(one.rows["group"], one.shown("n_people"), strict=True)}
    assert all(texts[key] == "*" for key, n in exact.items() if 0 < n < K)
    hidden = [key for key in exact if texts[key] == "*"]
    equations = []
    for whole in exact:
        conditions = set() if whole == "all" else set(whole.split(", "))
        for name in ("sex", "band", "group"):
            own = [
                k
                for k in exact
                if k != "all"
                and set(k.split(", ")) - conditions
                and {c for c in k.split(", ") if not c.startswith(f"{name}=")} == conditions
                and f"{name}=" in k
            ]
            if own and not any(c.startswith(f"{name}=") for c in conditions):
                equations.append((whole, own))
    matrix = np.array([[float(key in own) - float(key == whole) for key in hidden] for whole, own in equations])
    for row in matrix:
        missing = [exact[key] for key, w in zip(hidden, row, strict=True) if w]
        signs = {w for w in row if w}
        assert not (len(signs) == 1 and 0 < sum(missing) < K)
    if hidden:
        _, values, vectors = np.linalg.svd(matrix)
        free = vectors[int((values > 1e-9).sum()) :]
        for place, key in enumerate(hidden):
            assert exact[key] >= K or np.abs(free[:, place]).max(initial=0.0) > 1e-9, key


def test_standard__the_reader_finds_small_counts_where_only_these_are_hidden() -> None:
    """Planted: without the partners most cohorts give some away."""
    found = 0
    for seed in range(25):
        tables, exact = random_tables(seed)
        own = tables[0].rows
        small = [key for key in own["group"] if 0 < exact[key] < K]
        found += any(len([k for k in small if k.startswith(name) and "," not in k]) == 1 for name in ("sex", "band"))
    assert found > 3


def test_none__shows_everything() -> None:
    tables, exact = random_tables(1)
    one = mask_all(tables, MaskingRule(0, 1, ReleaseRule.NONE))["sex_band"]
    assert not one.hidden.to_numpy().any()
    assert one.rows["n_people"].tolist() == [exact[key] for key in one.rows["group"]]


def test_exact_only__rows_are_of_the_exact_report_alone() -> None:
    own = table("values", parts("bin", 40, 50, 60))
    one = replace(own, exact_only=[True, False, False])
    assert len(mask(one, RULE).rows) == 2
    assert len(mask(one, MaskingRule(0, 1, ReleaseRule.NONE)).rows) == 3
