"""What diagnostic statistics have in common: labels, groups, limits, and DeLong's covariance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from analysis.columns import Columns, TableRefused

DIRECTION: Final = "a higher marker means positive"
"""The direction of every marker; it is never chosen from the data."""

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Group:
    """Rows that are analysed together.

    Attributes:
        keys: value of each grouping column.
        rows: positions of its rows among the kept ones.
        name: for messages, as in "sex = female"; empty without grouping.
    """

    keys: dict[str, Any]
    rows: NDArray[np.int64]
    name: str

    def says(self, message: str) -> str:
        """Return a message that names the group where there is one."""
        return f"{self.name}: {message}" if self.name else message


def two_class_label(columns: Columns, label: str) -> Flags:
    """Return a yes/no label of which both classes occur.

    Args:
        columns: the kept rows.
        label: column of bool or 0/1; 1 is positive, as in diseased.

    Returns:
        (n,) bool.

    Raises:
        TableRefused: another code, or one class only.
    """
    positive = columns.flags(label)
    n_positive = int(positive.sum())
    if n_positive in (0, columns.n):
        raise TableRefused(
            f"column {label!r} has {n_positive} positive and {columns.n - n_positive} negative "
            "rows, expected both classes to occur"
        )
    return positive


def split_groups(columns: Columns, by: Sequence[str]) -> list[Group]:
    """Return the rows of each group, in sorted order of the grouping columns.

    Args:
        columns: the kept rows, with the columns of `by` among them.
        by: grouping columns; one group of everybody without any.
    """
    if not by:
        return [Group({}, np.arange(columns.n), "")]
    codes, labels = columns.groups(by)
    order = np.argsort(codes, kind="stable")
    starts = np.searchsorted(codes[order], np.arange(1, len(labels)))
    groups = []
    for key, rows in zip(labels, np.split(order, starts), strict=True):
        values = key if len(by) > 1 and isinstance(key, tuple) else (key,)
        keys = dict(zip(by, values, strict=True))
        name = ", ".join(f"{column} = {value}" for column, value in keys.items())
        groups.append(Group(keys, rows, name))
    return groups


def names_of(value: Sequence[str], argument: str, *, at_least: int = 0) -> tuple[str, ...]:
    """Return an argument that lists different columns.

    Args:
        value: what was given.
        argument: its name, for messages.
        at_least: how many columns are needed.

    Raises:
        TypeError: a text in place of a list.
        ValueError: too few columns, or one twice.
    """
    if isinstance(value, str):
        raise TypeError(f"{argument} is the text {value!r}, expected a list of columns")
    names = tuple(value)
    if len(names) < at_least:
        raise ValueError(f"{argument} names {len(names)} columns, expected at least {at_least}")
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ValueError(f"{argument} names {', '.join(repeated)} twice, expected once")
    return names


def check_roles(label: str | None, markers: Sequence[str], by: Sequence[str] = ()) -> None:
    """Refuse a column in two roles.

    Raises:
        ValueError: a column is the label, a marker and a grouping in more than one way.
    """
    roles = [name for name in (label, *markers, *by) if name is not None]
    twice = sorted({name for name in roles if roles.count(name) > 1})
    if twice:
        raise ValueError(
            f"column {twice[0]!r} is given in two roles, expected label, markers and by to differ"
        )


def normal_quantile(confidence: float) -> float:
    """Return the two-sided standard normal quantile of a confidence, 1.96 for 0.95.

    Raises:
        ValueError: `confidence` is not between 0 and 1.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence!r}, expected a share such as 0.95")
    return float(stats.norm.ppf(0.5 + confidence / 2))


def tidy_frame(
    groups: Sequence[Group], rows: Sequence[dict[str, Any]], by: Sequence[str]
) -> pd.DataFrame:
    """Return rows as a table, with the grouping columns first.

    Args:
        groups: group of each row.
        rows: one dict a row.
        by: the grouping columns.

    Raises:
        ValueError: a grouping column has the name of a column of the result.
    """
    frame = pd.DataFrame(list(rows))
    for place, name in enumerate(by):
        if name in frame.columns[place:]:
            raise ValueError(f"by names {name!r}, which the result has itself; rename the column")
        frame.insert(place, name, [group.keys[name] for group in groups])
    return frame


def delong(values: Floats, positive: Flags) -> tuple[Floats, Floats]:
    """Return the AUROC of several markers and their DeLong covariance, in O(k n log n).

    Args:
        values: (k, n) markers on the same n people; higher means positive.
        positive: (n,) bool, with both classes.

    Returns:
        (k,) areas, and their (k, k) covariance; NaN where a class has one person only.

    Source:
        DeLong ER et al., Biometrics 1988;44:837-845; computed by midranks as in Sun X and Xu W,
        IEEE Signal Process Lett 2014;21:1389-1393.
        R: pROC::auc, pROC::var, pROC::cov.
    """
    of_positive, of_negative = placements(values, positive)
    n_positive, n_negative = of_positive.shape[1], of_negative.shape[1]
    auc = of_positive.mean(axis=1)
    if min(n_positive, n_negative) < 2:
        return auc, np.full((len(values), len(values)), np.nan)
    covariance = _covariance(of_positive) / n_positive + _covariance(of_negative) / n_negative
    return auc, covariance


def placements(values: Floats, positive: Flags) -> tuple[Floats, Floats]:
    """Return the placement values of k markers.

    Args:
        values: (k, n) markers.
        positive: (n,) bool, with both classes.

    Returns:
        (k, n_positive) for each positive the share of negatives below it, and (k, n_negative) for
        each negative the share of positives above it; a tie counts one half.
    """
    n_positive = int(positive.sum())
    n_negative = positive.size - n_positive
    ranks = stats.rankdata(values, axis=1)
    among_positive = stats.rankdata(values[:, positive], axis=1)
    among_negative = stats.rankdata(values[:, ~positive], axis=1)
    below = (ranks[:, positive] - among_positive) / n_negative
    above = 1 - (ranks[:, ~positive] - among_negative) / n_positive
    return below, above


def _covariance(rows: Floats) -> Floats:
    centred = rows - rows.mean(axis=1, keepdims=True)
    return np.asarray(centred @ centred.T / (rows.shape[1] - 1))
