"""What follows from the steps of curves about events by a time, and after the last step."""

from __future__ import annotations

import math

import pandas as pd

from analysis.disclosure.aggregates import Aggregate, Thinned, count, label
from analysis.disclosure.counts import Count, Relation
from analysis.disclosure.suppression import Table, _steps

K = 10
CASES = Count().at(("af", "analysed"), ("status", "outcome"))
FIRST, SECOND = CASES.by(1.1, 0.025), CASES.by(2.0, 0.025)
COLUMNS = (label("group", "of a curve"), count("n_events", "so far"))


def curve(*steps: Count | None) -> Table:
    rows = pd.DataFrame({"group": "a", "n_events": [K * i for i in range(len(steps))]})
    whole = Aggregate(
        "curves",
        rows,
        COLUMNS,
        counts={"n_events": steps},
        thinned=Thinned("n_events", ("group",), [CASES] * len(steps)),
    )
    return Table(whole, rows, range(len(rows)), ())


def fewer_than_k_more(later: Count, *since: Count) -> Relation:
    return Relation(((later, 1.0), *((one, -1.0) for one in since)), -math.inf, K - 1.0)


def test_steps__fewer_than_k_events_come_before_the_next() -> None:
    early, just_there, late = CASES.by(1), CASES.by(2), CASES.by(3)
    found = list(_steps(curve(None, FIRST, SECOND), [early, just_there, late, CASES], K))
    assert found == [
        Relation(((FIRST, 1.0),), K, math.inf),
        Relation(((SECOND, 1.0),), 2 * K, math.inf),
        fewer_than_k_more(early),
        fewer_than_k_more(late, SECOND),
        fewer_than_k_more(CASES, SECOND),
    ]


def test_steps__a_curve_without_any_has_fewer_than_k_events() -> None:
    assert list(_steps(curve(None), [CASES], K)) == [fewer_than_k_more(CASES)]
