"""The log-rank test of equal survival in several groups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from analysis.columns import Missing, TableRefused, used_columns
from analysis.groups import at_least_two, named_columns, one_row_each, rows_by_group, stack_groups
from analysis.risk_sets import count_risk_sets

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class LogRankTest:
    """A log-rank test.

    Attributes:
        chi2: the statistic.
        df: its degrees of freedom, groups in which an event was expected less 1.
        p: its P value.
        groups: one row a group: `group` (or with several columns in `by` one column each), `n`,
            `observed` events, `expected` events were survival equal, over all strata.
        n: people.
        n_events: events.
        n_dropped_missing: rows left out because a used column was missing.
    """

    chi2: float
    df: int
    p: float
    groups: pd.DataFrame
    n: int
    n_events: int
    n_dropped_missing: int


def logrank_test(
    table: pd.DataFrame,
    *,
    duration: str,
    event: str,
    by: str | Sequence[str],
    strata: str | Sequence[str] = (),
    entry: str | None = None,
    missing: Missing = "refuse",
) -> LogRankTest:
    """Test whether survival is the same in all groups.

    Args:
        table: one row a person.
        duration: column of the exit time, above 0, in any one unit.
        event: column of yes/no or 0/1.
        by: column or columns that make the groups, at least two.
        strata: columns within which groups are compared.
        entry: column of delayed entry, below the exit. R's survdiff has no delayed entry.
        missing: "refuse" or "drop".

    Returns:
        The test.

    Raises:
        TableRefused: a column cannot be used, there is one group, or no event after which groups
            can be compared.
        ValueError: an argument is outside its values.
        TypeError: an argument is of another type.

    Source:
        Mantel N, Cancer Chemother Rep 1966;50:163; Peto R, Peto J, J R Stat Soc A 1972;135:185.

    R:
        `survdiff(Surv(duration, event) ~ by + strata(strata))`
    """
    groups = named_columns(by, "by")
    layers = named_columns(strata, "strata")
    columns = used_columns(table, [duration, event, entry, *groups, *layers], missing=missing)
    exits = columns.times(duration)
    events = columns.flags(event)
    entries = columns.entries(entry, duration=duration, exits=exits)
    codes, labels = columns.groups(groups)
    at_least_two(labels, groups, columns.n)
    size = len(labels)
    excess, variance = np.zeros(size), np.zeros((size, size))
    layer, names = columns.groups(layers)
    for rows in rows_by_group(layer, len(names)):
        entry_times = None if entries is None else entries[rows]
        part = _compare(exits[rows], events[rows], codes[rows], size, entry_times)
        excess, variance = excess + part[0], variance + part[1]
    observed = np.bincount(codes, events, size)
    expected = observed - excess
    chi2, df = _statistic(excess, variance, expected, event)
    n = np.bincount(codes, minlength=size)
    shown = {"n": n, "observed": observed.astype(np.int64), "expected": expected}
    return LogRankTest(
        chi2=chi2,
        df=df,
        p=float(stats.chi2.sf(chi2, df)),
        groups=stack_groups(groups, labels, one_row_each(shown)),
        n=columns.n,
        n_events=int(events.sum()),
        n_dropped_missing=columns.n_dropped_missing,
    )


def _compare(
    exits: Floats, events: NDArray[np.bool_], codes: NDArray[np.int64], n_groups: int, entries: Floats | None
) -> tuple[Floats, Floats]:
    """Observed less expected events of each group in one stratum, and their covariance."""
    statuses = np.where(events, codes + 1, 0)
    risk = count_risk_sets(exits, statuses, n_causes=n_groups, entries=entries)
    happened = np.flatnonzero(risk.n_events.sum(axis=1) > 0)
    n, d = risk.n_at_risk[happened], risk.n_events[happened].sum(axis=1)
    share = np.zeros((len(happened), n_groups))
    for group in np.unique(codes):
        weight = (codes == group).astype(np.float64)
        own = count_risk_sets(exits, statuses, n_causes=n_groups, entries=entries, weights=weight)
        share[:, group] = own.n_at_risk[happened] / n
    spread = d * (n - d) / np.maximum(n - 1, 1)
    covariance = np.diag(spread @ share) - (share * spread[:, None]).T @ share
    return risk.n_events.sum(axis=0) - d @ share, covariance


def _statistic(excess: Floats, variance: Floats, expected: Floats, event: str) -> tuple[float, int]:
    used = np.flatnonzero(expected > 0)
    df = len(used) - 1
    kept = used[:-1]
    within = variance[np.ix_(kept, kept)]
    if df < 1 or not np.isfinite(within).all() or np.linalg.matrix_rank(within) < df:
        raise TableRefused(
            f"column {event!r} has no event at which all groups could be compared, expected "
            "events while people of other groups are at risk"
        )
    return float(excess[kept] @ np.linalg.solve(within, excess[kept])), df
