"""Relations between counts follow from what they count; all hold for people drawn at random."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import product

import numpy as np
import pandas as pd
import pytest

from analysis.disclosure.audit import holds, solved
from analysis.disclosure.counts import ECGS, PEOPLE_OF_ECGS, YEARS, Count, Relation, is_part, parts_of, relations_of

LEFT = Count(path=(("left out", "left"),))
AF = LEFT.at(("af", "analysed"))
CASES = AF.at(("status", "outcome"))
LONGEST = {"af": 8.0}


def texts(relations: list[Relation]) -> set[str]:
    return {f"{' '.join(f'{w:+g} [{c}]' for c, w in one.terms)} {one.low:g} to {one.high:g}" for one in relations}


def test_sums__over_the_levels_of_those_whose_level_is_known() -> None:
    women, men = AF.level("sex", "female"), AF.level("sex", "male")
    found = {frozenset(one.terms) for one in relations_of([AF, women, men])}
    assert frozenset({(AF.complete("sex"), 1.0), (women, -1.0), (men, -1.0)}) in found
    assert frozenset({(AF, 1.0), (AF.complete("sex"), -1.0), (AF.lacking("sex"), -1.0)}) in found


def test_sums__over_ends_and_over_those_who_are_dropped() -> None:
    ends = [AF.at(("status", end)) for end in ("outcome", "death", "censored")]
    complete, dropped = AF.complete("age"), AF.lacking("age")
    found = {frozenset(one.terms) for one in relations_of([AF, *ends, complete, dropped])}
    assert frozenset({(AF, 1.0), *((end, -1.0) for end in ends)}) in found
    assert frozenset({(AF, 1.0), (complete, -1.0), (dropped, -1.0)}) in found


def test_times__events_add_up_over_periods() -> None:
    periods = [CASES.by(2), CASES.after(2), CASES.by(5)]
    found = {frozenset(one.terms) for one in relations_of([CASES, *periods])}
    assert frozenset({(CASES, 1.0), (CASES.by(2), -1.0), (CASES.after(2), -1.0)}) in found
    between = CASES.by(5).after(2)
    assert frozenset({(CASES.by(5), 1.0), (CASES.by(2), -1.0), (between, -1.0)}) in found


def test_at_most__the_narrower_and_only_the_nearest() -> None:
    early, women = CASES.part("year", 1), CASES.part("year", 1).level("sex", "female")
    found = texts(relations_of([AF, CASES, early, women]))
    assert f"+1 [{AF}] -1 [{CASES}] 0 to inf" not in found  # it follows from a sum
    assert not any(one.startswith(f"+1 [{AF}] -1 [{women}]") for one in found)
    found = texts(relations_of([AF, women]))
    assert f"+1 [{AF}] -1 [{women}] 0 to inf" in found


def test_units__ecgs_people_and_years() -> None:
    found = texts(relations_of([AF, AF.of(ECGS), AF.of(YEARS)], LONGEST))
    assert f"+1 [{AF.of(ECGS)}] -1 [{AF}] 0 to inf" in found
    assert f"+8 [{AF}] -1 [{AF.of(YEARS)}] 0 to inf" in found


def test_people_of_ecgs__can_be_in_several_parts() -> None:
    whole = AF.of(PEOPLE_OF_ECGS)
    ends = [whole.at(("status", end)) for end in ("outcome", "death")]
    sums = [one for one in relations_of([whole, *ends]) if len(one.terms) == 3]
    assert [(one.low, one.high) for one in sums] == [(-np.inf, 0.0)]


def test_parts_of__goes_down_all_the_way() -> None:
    women = CASES.level("sex", "female")
    relations = relations_of([AF, CASES, women])
    assert {women, CASES} <= parts_of([AF], relations)
    assert AF not in parts_of([CASES], relations)


def test_is_part() -> None:
    assert is_part(CASES.by(2).level("sex", "male").complete("age"), AF.complete("sex"))
    assert is_part(CASES.by(2), CASES.by(5))
    assert is_part(AF.after(5), AF.after(2))
    assert is_part(AF.lacking("age"), AF.lacking("age", "sex"))
    assert not is_part(AF.by(5), AF.by(2))
    assert not is_part(AF, CASES)
    assert not is_part(LEFT.at(("mi", "analysed")).by(2), AF.by(5))


def drawn(seed: int, n: int = 60) -> pd.DataFrame:
    """People with everything that counts may ask for."""
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "sex": rng.choice(["female", "male", ""], n),
            "age": rng.choice(["old", "young", ""], n),
            "af": rng.choice(["analysed", "prevalent"], n, p=[0.8, 0.2]),
            "status": rng.choice(["outcome", "death", "censored"], n),
            "year": rng.choice(3, n),
            "years": rng.uniform(0.01, 8, n).round(2),
        }
    )


def number(people: pd.DataFrame, one: Count) -> float:
    """How many people a count counts."""
    chosen = pd.Series(True, people.index)
    for name, value in one.path[1:]:
        chosen &= people[name] == value
    for name, value in one.parts:
        chosen &= people[name].astype(str) == value
    for name, value in one.levels:
        chosen &= people[name] == value
    for name in one.known:
        chosen &= people[name] != ""
    for names in one.unknown:
        chosen &= (people[sorted(names)] == "").any(axis=1)
    if one.ended:
        chosen &= people["years"] <= one.ended[2]
    if one.followed:
        chosen &= people["years"] > one.followed[1]
    return float(people.loc[chosen, "years"].sum() if one.unit == YEARS else chosen.sum())


@pytest.mark.parametrize("seed", range(4))
def test_relations__hold_for_people_drawn_at_random(seed: int) -> None:
    people = drawn(seed)
    groups = [
        AF,
        AF.level("sex", "female"),
        AF.level("sex", "male"),
        AF.complete("age", "sex"),
        AF.level("age", "old"),
        AF.level("sex", "male").complete("age"),
    ]
    ends = [one.at(("status", end)) for one, end in product(groups, ("outcome", "death", "censored"))]
    times = [one.by(t) for one, t in product(ends, (2, 5))] + [one.after(2) for one in groups]
    years = [one.of(YEARS) for one in groups]
    dropped = [
        AF.lacking("age", "sex"),
        LEFT.at(("af", "prevalent")),
        LEFT,
        AF.part("year", 1),
        AF.part("year", 0),
        AF.part("year", 2),
    ]
    published = [*groups, *ends, *times, *years, *dropped]
    relations = relations_of(published, LONGEST)
    exact = {one: number(people, one) for one in published}
    everything = {c: number(people, c) for one in relations for c, _ in one.terms}
    assert len(relations) > 100
    assert [one for one in relations if not holds(one, everything)] == []
    known = solved(relations, exact)
    assert len(known) > len(exact)
    assert {c: v for c, v in known.items() if abs(v - everything.get(c, v)) > 1e-6} == {}


def test_relations__have_one_order_whatever_the_seed_of_hashes() -> None:
    """Masking settles ties by this order: two runs of a study must hide the same."""
    code = """
from analysis.disclosure.counts import Count, relations_of
af = Count(path=(("left", "left"), ("af", "analysed")))
known = [af.complete(*names) for names in ("ab", "cde", "bcf", "ag", "eh")]
lacking = [af.lacking(*names) for names in ("ab", "cde", "bcf", "ag", "eh")]
print([[str(count) for count, _ in one.terms] for one in relations_of([af, *known, *lacking])])
"""
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONHASHSEED": str(seed)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in range(4)
    }
    assert len(found) == 1
