"""Standardised differences and shares of Table 1, from exact counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.disclosure.aggregates import Aggregate, count, label, number
from analysis.disclosure.counts import Count
from analysis.disclosure.masking import HIDDEN, NOT_APPLICABLE, Masked
from analysis.disclosure.meanings import name_of
from analysis.report.topics.tables import aggregate
from analysis.report.words import number_text, percent_text

Floats = NDArray[np.float64]
_TENTHS: Final = 1000  # of a per cent in a whole


def difference_of_numbers(first: pd.Series[Any], second: pd.Series[Any]) -> float:
    """Return the difference of means over the root of the mean variance; NaN without a spread.

    Source:
        Austin PC, Stat Med 2009;28:3083. R: `stddiff::stddiff.numeric`, with its sign.
    """
    spread = np.sqrt((first.var(ddof=1) + second.var(ddof=1)) / 2)
    return float((first.mean() - second.mean()) / spread) if spread > 0 else np.nan


def difference_of_shares(first: Floats, second: Floats) -> float:
    """Return one standardised difference of a category from the counts of its levels.

    Of two levels it is that of the last one, with its sign; of more the distance of Mahalanobis,
    which has none. Levels that nobody has are left out; NaN without a spread.

    Source:
        Yang D, Dalton JE, SAS Global Forum 2012, 335. R: `stddiff::stddiff.category`.
    """
    there = (first + second) > 0
    if not first.sum() or not second.sum() or there.sum() < 2:
        return np.nan
    p, q = (counts[there] / counts[there].sum() for counts in (first, second))
    p, q = p[1:], q[1:]
    variance = (np.diag(p + q) - np.outer(p, p) - np.outer(q, q)) / 2
    gap = p - q
    if np.linalg.matrix_rank(variance) < len(gap):
        return np.nan
    if len(gap) == 1:
        return float(gap[0] / np.sqrt(variance[0, 0]))
    return float(np.sqrt(gap @ np.linalg.solve(variance, gap)))


def differences_aggregate(
    key: str,
    people: pd.DataFrame,
    compared: tuple[str, str],
    who: Mapping[str, Count],
    variables: Mapping[str, tuple[str, Sequence[str]]],
) -> Aggregate:
    """Return one exact difference for each variable, of two groups of people with it known.

    `people` have a column `group`; `variables` are, by column, the words and the levels in order,
    none for a number. `who` says what each group counts.
    """
    rows, columns_of_rows = [], []
    parts = [people[people["group"] == one] for one in compared]
    for column, (words, levels) in variables.items():
        if column not in people:
            continue
        known = [part[column].dropna() for part in parts]
        if levels:
            counts = [np.array([int((own == level).sum()) for level in levels], dtype=float) for own in known]
            difference, sizes = difference_of_shares(*counts), [int(own.sum()) for own in counts]
            some = np.concatenate(counts)
            fewest = int(some[some > 0].min(initial=max(sizes)))
        else:
            difference = difference_of_numbers(*(own.astype(float) for own in known))
            sizes = [len(own) for own in known]
            fewest = min(sizes)
        rows.append(
            {"variable": words, "difference": difference, "n_first": sizes[0], "n_second": sizes[1]}
            | {"n_events_fewest": fewest}
        )
        columns_of_rows.append(column)
    needs = ("n_first", "n_second", "n_events_fewest")
    columns = (
        label("variable", "with its unit"),
        count("n_first", f"people with a value, of {compared[0]}"),
        count("n_second", f"people with a value, of {compared[1]}"),
        count("n_events_fewest", "people of the level that has fewest; never exported"),
        number("difference", f"standardised difference, {compared[0]} less {compared[1]}", *needs),
    )
    described = {
        name: [who[group].complete(name_of(column)) for column in columns_of_rows]
        for name, group in zip(("n_first", "n_second"), compared, strict=True)
    }
    return aggregate(f"{key}_differences", rows, columns, lambda _: described)


def difference_texts(found: Masked) -> dict[str, str]:
    """Return the differences as text, by variable."""
    shown = zip(found.rows["variable"], found.rows["difference"], found.hidden["difference"], strict=True)
    return {variable: number_text(value, 2, hidden=hidden) for variable, value, hidden in shown}


def share_texts(counts: Masked) -> pd.Series[Any]:
    """Return the percentages of the levels, which add up to 100.0 % within a variable and group.

    Where a level is hidden or numbers are rounded coarsely, the others stay as they are; else
    tenths of a per cent go to the largest remainders.
    """
    texts = pd.Series(HIDDEN, counts.rows.index, dtype=object)
    for _, own in counts.rows.groupby(["variable", "group"], sort=False):
        shares = pd.to_numeric(own["share"]).astype(float)
        hidden = counts.hidden.loc[own.index, "share"].to_numpy(dtype=bool) | shares.isna().to_numpy()
        if (pd.to_numeric(own["n_group"]) == 0).all():
            texts[own.index] = NOT_APPLICABLE
            continue
        tenths = shares.fillna(0).to_numpy() * _TENTHS
        if not hidden.any() and tenths.sum() > 0:
            tenths = _whole(tenths * _TENTHS / tenths.sum())
        words = [
            HIDDEN if is_hidden else percent_text(float(one) / _TENTHS)
            for one, is_hidden in zip(tenths, hidden, strict=True)
        ]
        texts = texts.where(~texts.index.isin(own.index), pd.Series(words, own.index).reindex(texts.index))
    return texts


def _whole(tenths: Floats) -> Floats:
    """Round so that the sum stays: the largest remainders are rounded up."""
    floor = np.floor(tenths + 1e-9)
    short = round(tenths.sum() - floor.sum())
    floor[np.argsort(floor - tenths, kind="stable")[:short]] += 1
    return floor
