"""What estimates over time share: groups and their labels, confidence limits, times to read at."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Final, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from analysis.columns import TableRefused
from analysis.risk_sets import RiskSets

CiKind = Literal["log-log", "log", "plain"]
Floats = NDArray[np.float64]

_CI_KINDS: Final = ("log-log", "log", "plain")


def named_columns(names: str | Sequence[str], what: str) -> tuple[str, ...]:
    """Return one name or several as a tuple.

    Args:
        names: a column, or a sequence of columns.
        what: the argument, for the message.

    Raises:
        TypeError: neither.
        ValueError: a column is named twice.
    """
    if isinstance(names, str):
        return (names,)
    if not isinstance(names, Sequence):
        raise TypeError(f"{what} is a {type(names).__name__}, expected a column or a list of them")
    if len(set(names)) != len(names):
        raise ValueError(f"{what} is {list(names)}, expected each column once")
    return tuple(names)


def at_least_two(labels: Sequence[Hashable], names: Sequence[str], n: int) -> None:
    """Refuse a comparison of groups where there is one.

    Raises:
        ValueError: no column makes groups.
        TableRefused: there is one group.
    """
    if not names:
        raise ValueError("by is empty, expected a column that makes the groups")
    if len(labels) < 2:
        raise TableRefused(
            f"column {' and '.join(map(repr, names))} has one group, {labels[0]!r}, over {n} "
            "rows, expected at least two"
        )


def rows_by_group(codes: NDArray[np.int64], n_groups: int) -> list[NDArray[np.int64]]:
    """Return the positions of the rows of each group, in their order."""
    order = np.argsort(codes, kind="stable")
    return np.split(order, np.cumsum(np.bincount(codes, minlength=n_groups))[:-1])


def label_columns(by: Sequence[str]) -> tuple[str, ...]:
    """Return the columns that hold the label of a group: `group`, or each of several in `by`."""
    return tuple(by) if len(by) > 1 else ("group",)


def stack_groups(
    by: Sequence[str], labels: Sequence[Hashable], parts: Sequence[Mapping[str, Any]]
) -> pd.DataFrame:
    """Put tables of groups under each other, each row with the label of its group.

    Args:
        by: columns that make the groups.
        labels: one for each group; a tuple with several columns.
        parts: for each group its columns, arrays of one length.

    Returns:
        The table; the label stands in `group`, or with several columns in one column each under
        their own names.

    Raises:
        ValueError: a name in `by` is also that of a column of the result.
    """
    names = label_columns(by)
    clash = sorted(set(names) & set(parts[0]))
    if clash:
        raise ValueError(
            f"by names {clash[0]!r}, which is a column of the result; expected another name. "
            "Rename the column"
        )
    sizes = [len(next(iter(part.values()))) for part in parts]
    keys = [label if len(names) > 1 else (label,) for label in labels]
    repeated = {
        name: np.repeat(pd.Series([key[place] for key in keys]).to_numpy(), sizes)  # type: ignore[index]
        for place, name in enumerate(names)
    }
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return pd.DataFrame({**repeated, **joined})


def one_row_each(values: Mapping[str, NDArray[Any]]) -> list[dict[str, NDArray[Any]]]:
    """Return columns of values, one for each group, as the tables of single groups."""
    size = len(next(iter(values.values())))
    return [{name: column[[place]] for name, column in values.items()} for place in range(size)]


def rows_by_key(stacked: pd.DataFrame, names: Sequence[str]) -> list[NDArray[np.int64]]:
    """Return the positions of the rows of each combination of values, in order of appearance."""
    numbers = stacked.groupby(list(names), sort=False, observed=True).ngroup().to_numpy()
    return rows_by_group(numbers.astype(np.int64), int(numbers.max()) + 1)


def normal_quantile(confidence: float) -> float:
    """Return the normal quantile of a two-sided interval, 1.96 for 0.95.

    Raises:
        ValueError: `confidence` is not between 0 and 1.
    """
    if not (0 < confidence < 1 and math.isfinite(confidence)):
        raise ValueError(f"confidence is {confidence}, expected above 0 and below 1, as in 0.95")
    return float(stats.norm.ppf((1 + confidence) / 2))


def check_ci(ci: str) -> None:
    """Refuse an unknown kind of confidence limits.

    Raises:
        ValueError: another word.
    """
    if ci not in _CI_KINDS:
        raise ValueError(f"ci is {ci!r}, expected one of {', '.join(map(repr, _CI_KINDS))}")


def confidence_limits(
    probability: Floats, se: Floats, *, ci: CiKind, confidence: float
) -> tuple[Floats, Floats]:
    """Return pointwise confidence limits of a probability, within 0 and 1.

    Args:
        probability: (J,) estimates.
        se: (J,) their standard errors.
        ci: scale on which the interval is symmetric: log(-log), log, or the probability.
        confidence: 0.95 for 95 %.

    Returns:
        Lower and upper limits; NaN for a probability of 0 or 1 (log-log) or of 0 (log), where the
        scale has no value.

    Source:
        Kalbfleisch JD, Prentice RL, The Statistical Analysis of Failure Time Data, 2002, 1.4.

    R:
        `survfit(..., conf.type = ci)`
    """
    z = normal_quantile(confidence)
    if ci == "plain":
        return np.clip(probability - z * se, 0, None), np.clip(probability + z * se, None, 1)
    open_low = probability > 0 if ci == "log" else (probability > 0) & (probability < 1)
    inside = np.where(open_low, probability, np.nan)
    width = z * se / inside
    if ci == "log":
        return inside * np.exp(-width), np.minimum(inside * np.exp(width), 1)
    factor = np.exp(-width / np.log(inside))
    return inside**factor, inside ** (1 / factor)


def reading_times(times: ArrayLike) -> Floats:
    """Return times at which a curve is read, as float64.

    Args:
        times: one or more, 0 or above, ascending.

    Raises:
        ValueError: none, not finite, negative, or not ascending.
    """
    at = np.atleast_1d(np.asarray(times, dtype=np.float64))
    if at.ndim != 1 or at.size == 0 or not np.isfinite(at).all() or (at < 0).any():
        raise ValueError(f"times is {times!r}, expected one or more finite times of 0 or above")
    if (np.diff(at) <= 0).any():
        raise ValueError(f"times is {times!r}, expected ascending times without repetition")
    return at


def counts_between(times: Floats, counts: Floats, at: Floats) -> Floats:
    """Return what was counted after the reading before and up to each reading.

    Args:
        times: (J,) ascending.
        counts: (J,) at each of them.
        at: (m,) ascending readings; the first one takes everything up to it.
    """
    running = np.concatenate([np.zeros(1, dtype=counts.dtype), np.cumsum(counts)])
    reached = running[np.searchsorted(times, at, side="right")]
    return np.diff(reached, prepend=np.zeros(1, dtype=counts.dtype))


def next_values(times: Floats, counts: Floats, at: Floats) -> Floats:
    """Return the count at the first of `times` that is not before each reading, 0 after all.

    R counts people at risk between two steps like this.
    """
    padded = np.concatenate([counts, np.zeros(1, dtype=counts.dtype)])
    return padded[np.searchsorted(times, at, side="left")]


def as_counts(values: Floats, *, weighted: bool) -> Floats | NDArray[np.int64]:
    """Return counts as whole numbers, or as sums of weights."""
    return values if weighted else np.rint(values).astype(np.int64)


def emptied_early(risk: RiskSets, left: Floats, label: Hashable) -> tuple[str, ...]:
    """Warn of a curve that reaches its end because the people at risk ran out before others came.

    Args:
        risk: the risk sets of a group.
        left: (J,) those at risk without event at each time.
        label: of the group.
    """
    empty = np.flatnonzero(left == 0)
    if len(empty) == 0 or empty[0] == len(left) - 1:
        return ()
    place = int(empty[0])
    return (
        f"group {label}: all {risk.n_at_risk[place]:g} at risk at time {risk.times[place]:g} had "
        f"an event, so the curve stays where it is though follow-up goes on to "
        f"{risk.times[-1]:g}; begin where enough people are at risk",
    )


def remaining_weight(risk: RiskSets) -> Floats:
    """Return those at risk without event at each time; what rounding of weights leaves is 0."""
    left = risk.n_at_risk - risk.n_events.sum(axis=1)
    total = risk.n_events.sum() + risk.n_censored.sum()
    return np.where(left <= 1e-12 * total, 0.0, left)
