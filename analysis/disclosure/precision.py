"""How finely numbers are told: no more finely than the counts beside them.

An estimate tells how many people it rests on: a standard error is a standard deviation over the
root of n; the mean of all lies between those of two groups as their sizes do; a cumulative
incidence is events over people. Counts are rounded to `base`, so the numbers are, too:

- The interval of a mean, a share, a correlation or another estimate of people without events is as
  wide as it would be were the counts as shown: se, limits and z are scaled by the root of n over
  the rounded n. What follows from them is the rounded count.
- Estimates from models of events stay what they are: people publish them, and a P value must not
  move. Their errors tell the events of a smaller arm within a few per cent, which are k or more.
- One person moves a mean by about se / sqrt(n), of a mean's standard error se. A mean is rounded
  to what `base` people move it, base * se / sqrt(n), to 1, 2 or 5 times a power of ten. So are
  quantiles and standard deviations.
- A share of n people is told in steps of base / n.
- All else has three significant digits; two where it is of fewer than FEW * base people, so that
  nothing is read from the shape of an interval; four from MANY * base events or people.
- P values have two digits. But for models of events 0.0009 stands for all below 0.001: with an
  estimate a very small one tells n.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from scipy import stats

from analysis.disclosure.aggregates import Column, Precision
from analysis.disclosure.suppression import nice

FEW: Final = 20
MANY: Final = 100
LEAST_P: Final = 0.001
LESS: Final = 0.0009
"""What is told of all P values below LEAST_P."""
_HALF_A_YEAR: Final = 0.5
_Z95: Final = 1.959964
_SYMMETRIC: Final = 1e-5


@dataclass(frozen=True, slots=True)
class Known:
    """A count behind a number.

    Attributes:
        exact: NaN where there is none.
        shown: rounded; NaN where hidden.
        base: what it is rounded to.
    """

    exact: float = math.nan
    shown: float = math.nan
    base: float = 1.0

    @property
    def is_there(self) -> bool:
        """Whether it is shown and not 0."""
        return self.shown > 0 and self.exact > 0


def to_digits(value: float, digits: int) -> float:
    """Return a number with so many significant digits."""
    return float(f"{value:.{digits - 1}e}") if np.isfinite(value) else value


def to_step(value: float, step: float) -> float:
    """Return the nearest multiple of a step, with no more digits than the step has."""
    if not (np.isfinite(value) and step > 0):
        return value
    return to_digits(round(value / step) * step, 12)


def p_value(p: float) -> float:
    """Return a P value as it is told: two digits, LESS where it is below LEAST_P."""
    return LESS if p < LEAST_P else to_digits(p, 2)


def rounded_number(value: float, column: Column, known: Known, sd: float) -> float:
    """Return a number of a table as it is told.

    Args:
        value: exact.
        column: what it is.
        known: the count that it is told by.
        sd: standard deviation of what it is a mean or quantile of; NaN where not known.
    """
    if not np.isfinite(value):
        return value
    if column.precision == Precision.P:
        return p_value(value)
    if column.precision == Precision.TIME:
        return to_step(value, _HALF_A_YEAR)
    if not known.is_there:
        return to_digits(value, _digits(known, is_of_people=True))
    if column.precision == Precision.SHARE:
        return to_step(value, known.base / known.shown)
    if column.precision == Precision.MEAN and sd > 0:
        return to_step(value, nice(known.base * sd / known.shown))
    return to_digits(value, _digits(known, is_of_people=column.precision == Precision.MEAN))


def is_publishable(column: Column, known: Known, k: int) -> bool:
    """Return whether so many people lie on either side of a quantile that it is nobody's own."""
    if column.quantile is None:
        return True
    aside = min(column.quantile, 1 - column.quantile)
    return bool(known.shown * aside >= k)


def _digits(known: Known, *, is_of_people: bool) -> int:
    if known.shown >= MANY * known.base:
        return 4
    return 2 if is_of_people and not known.shown >= FEW * known.base else 3


def rounded_result(
    row: Mapping[str, float], how: str, counts: Mapping[str, Known], *, is_chi_square: bool
) -> dict[str, float]:
    """Return the numbers of one row of the results as they are told.

    Args:
        row: estimate, se, lo, hi, p, p_ph, q, as they are; NaN where there is none.
        how: "" as most; "mean" for what is a mean over people, "share" for a share of people,
            "rounded" for what was computed from rounded counts, and stays as it is.
        counts: by column of the results.
        is_chi_square: whether the estimate is a test statistic, which grows with n.
    """
    if how == "rounded":
        return dict(row)
    behind, is_of_people = _behind(counts)
    widening = 1.0
    if behind.is_there and (how or is_of_people):
        widening = math.sqrt(behind.exact / behind.shown)
    estimate = row["estimate"]
    se = row["se"] * widening
    made = dict(row)
    step = _step(how, row, widening, counts["n_people"])
    if is_chi_square:
        estimate /= widening**2
    if step:
        estimate = to_step(estimate, step)
    digits = _digits(behind, is_of_people=is_of_people)
    limits = _limits(row, estimate, widening, behind if is_of_people else None)
    made["estimate"] = estimate if step else to_digits(estimate, digits)
    if not limits.is_symmetric and behind.shown < MANY * behind.base:
        digits = 2
    made["se"] = to_digits(se, digits)
    made["lo"], made["hi"] = (
        to_step(value, step) if how == "share" else to_digits(value, digits) for value in (limits.lo, limits.hi)
    )
    if behind.is_there and not is_of_people and not how:
        return made | {name: to_digits(row[name], 2) for name in ("p", "p_ph", "q")}
    z = stats.norm.isf(row["p"] / 2) / limits.widening
    made["p"] = p_value(float(2 * stats.norm.sf(z)))
    made["p_ph"], made["q"] = p_value(row["p_ph"]), p_value(row["q"])
    return made


def _behind(counts: Mapping[str, Known]) -> tuple[Known, bool]:
    """The count that decides how wide intervals are, and whether it is of people."""
    for name in ("n_events_fewest", "n_events", "n_people"):
        if counts[name].is_there:
            return counts[name], name == "n_people"
    return Known(), True


def _step(how: str, row: Mapping[str, float], widening: float, people: Known) -> float:
    """What an estimate is rounded to, 0 where it has digits instead."""
    if not people.is_there:
        return 0.0
    if how == "share":
        return people.base / people.shown
    if how == "mean":
        se = row["se"] if np.isfinite(row["se"]) else (row["hi"] - row["lo"]) / (2 * _Z95)
        if se > 0:
            return nice(people.base * se * widening / math.sqrt(people.shown))
    return 0.0


_Function = Callable[[float], float]
_SCALES: Final[Sequence[tuple[_Function, _Function, float, float]]] = (
    (float, float, -math.inf, math.inf),
    (math.log, math.exp, 0.0, math.inf),
    (math.atanh, math.tanh, -1.0, 1.0),
)


class _Limits(NamedTuple):
    """An interval as it is told, before digits are cut.

    Attributes:
        lo, hi: limits.
        is_symmetric: whether a scale is known on which it lies around its estimate.
        widening: how much wider it is than the exact one, on that scale.
    """

    lo: float
    hi: float
    is_symmetric: bool
    widening: float


def _limits(row: Mapping[str, float], estimate: float, widening: float, people: Known | None) -> _Limits:
    """Limits around the estimate as it is told.

    They are moved and widened on the scale on which they lie symmetrically around the exact one;
    of a correlation of `people` by what Fisher's z makes of their number.
    """
    exact = row["lo"], row["estimate"], row["hi"]
    if not all(map(math.isfinite, exact)):
        return _Limits(row["lo"], row["hi"], True, widening)
    if exact[0] == exact[2]:
        return _Limits(estimate, estimate, True, widening)
    for to, back, low, high in _SCALES:
        if not (all(low < v < high for v in exact) and low < estimate < high):
            continue
        lo, middle, hi = map(to, exact)
        if abs((hi - middle) - (middle - lo)) > _SYMMETRIC * (hi - lo):
            continue
        if to is math.atanh and people is not None:
            widening = _widening_of_z((hi - lo) / 2, people)
        half, around = widening * (hi - lo) / 2, to(estimate)
        return _Limits(back(around - half), back(around + half), True, widening)
    to, back, *_ = _SCALES[1] if min(*exact, estimate) > 0 else _SCALES[0]
    lo, middle, hi = map(to, exact)
    around = to(estimate)
    told = back(around - widening * (middle - lo)), back(around + widening * (hi - middle))
    return _Limits(*told, False, widening)


def _widening_of_z(half: float, behind: Known) -> float:
    """Of Fisher's z, whose error is one over the root of n less a few."""
    if not behind.is_there:
        return 1.0
    freedom = (_Z95 / half) ** 2
    shown = freedom + behind.shown - behind.exact
    return math.sqrt(freedom / shown) if shown > 1 else 1.0
