"""What diagnostic statistics have in common: labels, groups, limits, and DeLong's covariance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from analysis.columns import Columns, TableRefused

DIRECTION: Final = "a higher marker means positive"
"""The direction of every marker; it is never chosen from the data."""

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


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


def check_roles(label: str | None, markers: Sequence[str], by: Sequence[str] = ()) -> None:
    """Refuse a column in two roles.

    Raises:
        ValueError: a column is the label, a marker and a grouping in more than one way.
    """
    roles = [name for name in (label, *markers, *by) if name is not None]
    twice = sorted({name for name in roles if roles.count(name) > 1})
    if twice:
        raise ValueError(f"column {twice[0]!r} is given in two roles, expected label, markers and by to differ")


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
