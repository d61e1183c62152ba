"""Gray's test of equal cumulative incidence in several groups."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from analysis.aalen_johansen import cause_codes, checked_causes
from analysis.columns import TableRefused, used_columns
from analysis.groups import at_least_two, named_columns
from analysis.risk_sets import count_risk_sets

Floats = NDArray[np.float64]


def gray_test(
    table: pd.DataFrame, *, duration: str, event: str, by: str | Sequence[str], causes: Sequence[int] = (1, 2)
) -> pd.DataFrame:
    """Test for each cause whether its cumulative incidence is the same in all groups.

    Neither delayed entry nor strata are provided for.

    Args:
        table: one row a person.
        duration: column of the exit time, above 0, in any one unit.
        event: column of 0 for censored, else one of the causes.
        by: column or columns that make the groups, at least two.
        causes: codes of the events; each is tested, with the others competing.

    Returns:
        `cause`, `chi2`, `df`, `p`, one row a cause in the order given.

    Raises:
        TableRefused: a column cannot be used, there is one group, or a cause has no event at
            which all groups can be compared.
        ValueError: an argument is outside its values.
        TypeError: an argument is of another type.

    Source:
        Gray RJ, Ann Stat 1988;16:1141, with rho = 0; the variance with a factor of the
        hypergeometric kind for tied events.

    R:
        `cmprsk::cuminc(duration, event, by)$Tests`
    """
    groups = named_columns(by, "by")
    codes = checked_causes(causes)
    columns = used_columns(table, [duration, event, *groups])
    exits = columns.times(duration)
    statuses = cause_codes(columns.statuses(event, codes), codes)
    group, labels = columns.groups(groups)
    at_least_two(labels, groups, columns.n)
    at_risk, events = _counts(exits, statuses, group, len(labels), len(codes))
    rows = []
    for place, cause in enumerate(codes):
        own = events[:, :, place]
        if not own.any():
            raise TableRefused(
                f"column {event!r} has no event of cause {cause} in {columns.n} rows, expected "
                "some; leave the cause out only if its code stands for no event"
            )
        score, covariance = _score(at_risk, own, events.sum(axis=2) - own)
        chi2, df = _chi2(score, covariance, event, cause)
        rows.append({"cause": cause, "chi2": chi2, "df": df, "p": float(stats.chi2.sf(chi2, df))})
    return pd.DataFrame(rows)


def _counts(
    exits: Floats, statuses: NDArray[np.int64], group: NDArray[np.int64], n_groups: int, n_causes: int
) -> tuple[Floats, Floats]:
    """(J, G) at risk and (J, G, K) events at the distinct times that have an event."""
    sets = [
        count_risk_sets(exits, statuses, n_causes=n_causes, weights=(group == one).astype(float))
        for one in range(n_groups)
    ]
    happened = sum(one.n_events.sum(axis=1) for one in sets) > 0
    at_risk = np.column_stack([one.n_at_risk[happened] for one in sets])
    return at_risk, np.stack([one.n_events[happened] for one in sets], axis=1)


def _score(at_risk: Floats, own: Floats, other: Floats) -> tuple[Floats, Floats]:
    """Score of each group and their covariance, in the paper's terms.

    Args:
        at_risk: (J, G) Y.
        own: (J, G) events of the cause.
        other: (J, G) events of the others.

    Returns:
        (G,) score z and (G, G) covariance.
    """
    n_groups = at_risk.shape[1]
    present = at_risk > 0
    y = np.where(present, at_risk, 1.0)
    survival = np.cumprod((y - own - other) / y, axis=0)
    before = _lagged(survival, 1.0)
    h = np.where(present, at_risk / np.where(before > 0, before, 1.0), 0.0)
    incidence_before = _lagged(np.cumsum(before * own / y, axis=0), 0.0)
    weight = h * (1 - incidence_before)
    n_own = own.sum(axis=1)
    share = weight / weight.sum(axis=1, keepdims=True)
    score = (own - share * n_own[:, None]).sum(axis=0)
    # Under the null: incidence of the cause in all groups together, and its complement.
    all_h = h.sum(axis=1)
    step = n_own / all_h
    pooled = 1 - np.cumsum(step)
    pooled_before = _lagged(pooled, 1.0)
    ratio = np.divide(pooled[:, None], survival, out=np.zeros_like(survival), where=survival > 0)
    tied_own = _tie_factor(n_own[:, None], all_h[:, None] * before)
    tied_other = _tie_factor(other, at_risk)
    own_size = np.where(present, step[:, None] * tied_own / np.where(present, h, 1.0), 0.0)
    other_size = np.where(present, before * other * tied_other / (y * np.where(present, h, 1.0)), 0.0)
    covariance = np.zeros((n_groups, n_groups))
    for source in range(n_groups):
        d = h[:, [source]] * ((np.arange(n_groups) == source) - h / all_h[:, None])
        c = np.cumsum(d * (step / pooled_before)[:, None], axis=0)
        ahead = c[-1] - c
        a = d + (1 - ratio[:, [source]]) * ahead
        b = ratio[:, [source]] * ahead
        covariance += (a * own_size[:, [source]]).T @ a + (b * other_size[:, [source]]).T @ b
    return score, covariance


def _tie_factor(events: Floats, at_risk: Floats) -> Floats:
    """1 - (d - 1) / (n - 1) where d events are tied, else 1."""
    tied = np.broadcast_to(events > 1, np.broadcast(events, at_risk).shape) & (at_risk > 1)
    return np.where(tied, 1 - (events - 1) / np.where(tied, at_risk - 1, 1.0), 1.0)


def _lagged(values: Any, start: float) -> Floats:
    """Values just before each time."""
    return np.concatenate([np.full_like(values[:1], start), values[:-1]])


def _chi2(score: Floats, covariance: Floats, event: str, cause: int) -> tuple[float, int]:
    df = len(score) - 1
    kept = covariance[:df, :df]
    if not np.isfinite(kept).all() or np.linalg.matrix_rank(kept) < df:
        raise TableRefused(
            f"column {event!r} has no event of cause {cause} at which all groups could be "
            "compared, expected events while people of other groups are at risk"
        )
    return float(score[:df] @ np.linalg.solve(kept, score[:df])), df
