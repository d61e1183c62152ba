"""What may leave of the tables of a study, all of them looked at together.

Study rules, section 8; the rule, k and base are the data custodian's. A count of 1 to k - 1 is
hidden, and all hidden cells look the same. What is a function of counts alone (a rate, a
percentage) is computed from masked counts by the code that shows it.

- `none`: everything is exact.
- `standard`: the module of that name says which other counts are hidden, and which estimates; the
  rest is exact, unless `base` is above 1.
- `strict`: counts are rounded to `base`, 0 stays 0. Where a hidden count could be worked out from
  what is shown in any table, more is rounded to a coarser base or hidden (`suppression`). Estimates
  are hidden where a count that they need is.

With a base above 1, and under `strict`, numbers are rounded, too, so that they say no
more of their counts than the rounded counts do. A
standard error is a standard deviation over the root of n; the mean of all lies between those of two
groups as their sizes do; a cumulative incidence is events over people. Therefore:

- The interval of a mean, a share, a correlation or another estimate of people without events is as
  wide as it would be with the counts as shown: se, limits and z are scaled by the root of n over
  the rounded n. What can be computed from them is the rounded count.
- Estimates from models of events stay as they are: people publish them, and a P value must not
  move. Their errors give the events of a smaller arm within a few per cent, which are k or more.
- One person moves a mean by about se / sqrt(n), of a mean's standard error se. A mean is rounded
  to what `base` people move it, base * se / sqrt(n), to 1, 2 or 5 times a power of ten. So are
  quantiles and standard deviations.
- A share of n people is rounded to steps of base / n.
- All else has three significant digits; two where it is of fewer than 20 * base people, so that
  nothing is read from the shape of an interval; four from 100 * base events or people.
- P values have two digits. Without events behind them 0.0009 replaces all below 0.001: with an
  estimate a very small one gives n.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from analysis.disclosure.aggregates import Aggregate, Blocks, Column, Kind, Precision
from analysis.disclosure.audit import Promise, rounded
from analysis.disclosure.release import ReleaseRule
from analysis.disclosure.standard import hidden_under_standard, suppress_standard, with_ticks_apart
from analysis.disclosure.suppression import FEWEST_YEARS, Suppressed, Table, nice, suppress

HIDDEN: Final = "*"
NOT_APPLICABLE: Final = "–"
_FEW_EVENTS: Final = "fewer events than ten for each parameter: estimates are unstable and limits too narrow"
_ELSEWHERE: Final = "a message with exact numbers is in restricted/results.csv"
_DIGITS_OF_SIZES: Final = 4
_DIGITS_OF_YEARS: Final = 1  # after the point, of person-years under `standard`
_FEW: Final = 20
_MANY: Final = 100
_LEAST_P: Final = 0.001
_LESS: Final = 0.0009  # replaces all P values below _LEAST_P
_HALF_A_YEAR: Final = 0.5
_Z95: Final = 1.959964
_SYMMETRIC: Final = 1e-5


@dataclass(frozen=True, slots=True)
class MaskingRule:
    """How small a number may leave."""

    k: int = 10  # counts of 1 to k - 1 are hidden; 0 turns masking off
    base: int = 5  # shown counts are rounded to multiples of it; 1 for exact counts
    rule: ReleaseRule = ReleaseRule.STRICT

    def __post_init__(self) -> None:
        if self.k < 0 or self.base < 1:
            raise ValueError(f"masking is k {self.k}, base {self.base}; expected k 0 or more, base 1 or more")

    @property
    def is_strict(self) -> bool:
        """Whether more is taken away than small counts and what gives them by subtraction."""
        return self.on and self.rule == ReleaseRule.STRICT

    @property
    def rounds(self) -> bool:
        """Whether numbers are rounded as the counts behind them are."""
        return self.is_strict or self.base > 1

    @property
    def on(self) -> bool:
        """Whether anything is hidden or rounded."""
        return self.k > 1 or self.base > 1

    def rounded(self, counts: pd.Series) -> pd.Series:
        """Return multiples of base, halves rounded up, 0 only for 0; missing where missing."""
        return _rounded(counts, pd.Series(float(self.base), counts.index))


@dataclass(frozen=True, slots=True)
class Masked:
    """An aggregate after masking."""

    key: str
    rows: pd.DataFrame  # counts as Int64, numbers as float64, missing where hidden or not applicable
    hidden: pd.DataFrame  # of the same shape, True where masking took the value away
    bases: pd.DataFrame  # of its counts: what each is rounded to, 0 where hidden
    columns: tuple[Column, ...]
    rule: MaskingRule  # that was applied

    def shown(self, column: str) -> pd.Series:
        """Return counts or person-years as text: "1,235", "1,240±20", `HIDDEN`, or a dash."""
        values, hidden = self.rows[column], self.hidden[column]
        texts = [
            HIDDEN if h else NOT_APPLICABLE if pd.isna(v) else f"{v:,.0f}{more}"
            for v, h, more in zip(values, hidden, self.coarse(column), strict=True)
        ]
        return pd.Series(texts, index=values.index, dtype=object)

    def coarse(self, column: str) -> list[str]:
        """Return "±20" for counts and person-years that are rounded more than others, else ""."""
        kinds = {one.name: one.kind for one in self.columns}
        usual = {Kind.COUNT: float(self.rule.base), Kind.PERSON_YEARS: FEWEST_YEARS}
        if column not in self.bases or kinds[column] not in usual:
            return [""] * len(self.rows)
        least = usual[kinds[column]]
        return [f"±{base / 2:.0f}" if base > least else "" for base in self.bases[column]]


def mask(aggregate: Aggregate, rule: MaskingRule) -> Masked:
    """Return one aggregate as it may leave, if nothing else leaves."""
    return mask_all([aggregate], rule)[aggregate.key]


def mask_all(
    aggregates: Sequence[Aggregate], rule: MaskingRule, longest_years: Mapping[str, float] | None = None
) -> dict[str, Masked]:
    """Return the aggregates of a study, by key, as they may leave together.

    What one table hides, no other may show: all counts are looked at together. The rows that
    `small="drop"` or thinning take away are missing. `longest_years` is the longest follow-up of
    anybody, by outcome.
    """
    tables = [_kept(one, rule) for one in aggregates]
    found = _suppressed(tables, rule, longest_years or {})
    return {table.aggregate.key: _masked(table, bases, rule) for table, bases in zip(tables, found.bases, strict=True)}


def _kept(aggregate: Aggregate, rule: MaskingRule) -> Table:
    """The rows that may stay, with their coarse values where they have some."""
    rows = aggregate.rows.reset_index(drop=True)
    if aggregate.coarse is not None and rule.rounds:
        coarse = aggregate.coarse.set_axis(rows.index)
        rows = rows.assign(**{str(name): rows[name].where(own.isna(), own) for name, own in coarse.items()})
    if aggregate.blocks is not None and rule.k > 1:
        rows = _without_blocks(rows, aggregate.blocks, rule.k)
    apart = np.ones(len(rows), dtype=bool)
    if aggregate.ticks is not None and rule.k > 1 and not rule.is_strict:
        rows, apart = with_ticks_apart(rows, aggregate.ticks, rule.k)
    aggregate = replace(aggregate, rows=rows)
    keep = _steps_of_curves(aggregate, rows, rule) & apart
    if len(aggregate.exact_only) and rule.on:
        keep &= ~np.asarray(aggregate.exact_only, dtype=bool)
    lost = np.zeros(len(rows), dtype=bool)
    if aggregate.small == "drop":
        counts = rows[aggregate.names(Kind.COUNT)].apply(pd.to_numeric)
        lost = ((counts > 0) & (counts < rule.k)).any(axis=1).to_numpy(dtype=bool)
    places = np.flatnonzero(keep & ~lost)
    kept = rows.loc[places].reset_index(drop=True)
    return Table(aggregate, kept, places.tolist(), np.flatnonzero(keep & lost).tolist())


def _without_blocks(rows: pd.DataFrame, blocks: Blocks, k: int) -> pd.DataFrame:
    cells = rows[list(blocks.columns)].astype("Int64")
    small = ((cells > 0) & (cells < k)).any(axis=1)
    together = small.groupby([rows[name] for name in blocks.within])
    return rows.assign(**cells.mask(together.transform("any")))


def _steps_of_curves(aggregate: Aggregate, rows: pd.DataFrame, rule: MaskingRule) -> Any:
    """Which rows of curves stay.

    Under `strict` the first row of each curve, and then a row whenever k more events have come;
    under `standard` those with k people at risk.
    """
    thinned = aggregate.thinned
    keep = np.ones(len(rows), dtype=bool)
    if thinned is None or rule.k < 2:
        return keep
    if not rule.is_strict:
        return keep if not thinned.at_risk else (pd.to_numeric(rows[thinned.at_risk]) >= rule.k).to_numpy(dtype=bool)
    keep[:] = False
    for _, curve in rows.groupby(list(thinned.within), sort=False, dropna=False):
        last = None
        for place, events in zip(curve.index, curve[thinned.events], strict=True):
            if last is None or events >= last + rule.k:
                keep[place], last = True, events
    return keep


def _suppressed(tables: Sequence[Table], rule: MaskingRule, longest_years: Mapping[str, float]) -> Suppressed:
    if rule.k > 1:
        promise = Promise(rule.k, rule.base)
        return suppress(tables, promise, longest_years) if rule.is_strict else suppress_standard(tables, promise)
    bases = [table.rows[table.counted()].notna().astype(float).replace(0.0, np.nan) * rule.base for table in tables]
    return Suppressed(bases, [])


def _masked(table: Table, bases: pd.DataFrame, rule: MaskingRule) -> Masked:
    aggregate, rows = table.aggregate, table.rows
    if rule.is_strict or not rule.on:
        hidden = _together(aggregate, rows, _hidden(aggregate, rows, bases))
    else:
        hidden = hidden_under_standard(aggregate, rows, bases, rule.k)
    values = rows.copy()
    thinned = aggregate.thinned
    if thinned is not None and thinned.times and rule.is_strict:
        values[thinned.times] = (rows[thinned.times] / thinned.step).round() * thinned.step
    for name in aggregate.names(Kind.COUNT):
        values[name] = _rounded(rows[name], bases[name])
    for column in aggregate.columns:
        if column.kind == Kind.NOTE:
            notes = rows[column.name].map(_without_values) if rule.on else rows[column.name]
            values[column.name] = notes.mask(hidden[column.name], "")
        elif column.kind == Kind.PERSON_YEARS:
            years = _years(rows[column.name], bases.get(column.name), rule)
            values[column.name] = years.mask(hidden[column.name])
    for name, numbers in _numbers(aggregate, rows, values, bases, rule).items():
        values[name] = numbers.mask(hidden[name])
        hidden[name] |= numbers.isna() & rows[name].notna()
    return Masked(aggregate.key, values, hidden, bases, aggregate.columns, rule)


def _hidden(aggregate: Aggregate, rows: pd.DataFrame, bases: pd.DataFrame) -> pd.DataFrame:
    """Where something is hidden, whether there is anything or not.

    Blank beside hidden would show that there are too few people even for an estimate.
    """
    hidden = pd.DataFrame(False, rows.index, rows.columns)
    for name in bases:
        hidden[name] = bases[name] == 0
    for column in aggregate.columns:
        if column.kind not in (Kind.LABEL, Kind.COUNT) and column.needs:
            hidden[column.name] |= hidden[list(column.needs)].any(axis=1)
    return hidden


def _together(aggregate: Aggregate, rows: pd.DataFrame, hidden: pd.DataFrame) -> pd.DataFrame:
    """Hide the numbers of all rows of a classification as soon as those of one are hidden."""
    if aggregate.together is None or not len(rows):
        return hidden
    names = [*aggregate.names(Kind.NUMBER), *aggregate.names(Kind.NOTE)]
    by = [rows[name] for name in aggregate.together] or [pd.Series(0, rows.index)]
    groups = rows.groupby(by, sort=False, dropna=False).ngroup()
    hidden[names] = hidden[names].groupby(groups).transform("any")
    return hidden


def _rounded(counts: pd.Series[Any], bases: pd.Series[Any]) -> pd.Series[Any]:
    """Counts to the nearest multiple of their bases, missing where hidden."""
    values = pd.to_numeric(counts).astype("float64")
    return pd.Series(rounded(values, bases.mask(bases == 0)), counts.index).astype("Int64")


def _years(own: pd.Series[Any], bases: pd.Series[Any] | None, rule: MaskingRule) -> pd.Series[Any]:
    years = pd.to_numeric(own).astype(float)
    if not rule.on:
        return years
    if not rule.rounds:
        return years.round(_DIGITS_OF_YEARS)
    base = FEWEST_YEARS if bases is None else bases.replace(0.0, np.nan)
    return (years / base).astype(float).round() * base


def _without_values(text: str) -> str:
    """Return messages without the counts, values and rows that they quote."""
    made = []
    for part in filter(None, text.split("; ")):
        few = "events for" in part and "fewer than" in part
        made.append(_FEW_EVENTS if few else _ELSEWHERE if any(map(str.isdigit, part)) else part)
    return "; ".join(dict.fromkeys(made))


@dataclass(frozen=True, slots=True)
class Known:
    """A count behind a number."""

    exact: float = math.nan  # NaN where there is none
    shown: float = math.nan  # rounded; NaN where hidden
    base: float = 1.0  # what it is rounded to

    @property
    def is_there(self) -> bool:
        """Whether it is shown and not 0."""
        return self.shown > 0 and self.exact > 0


def _numbers(
    aggregate: Aggregate, rows: pd.DataFrame, shown: pd.DataFrame, bases: pd.DataFrame, rule: MaskingRule
) -> dict[str, pd.Series[Any]]:
    """The estimates, rounded; missing where they must not be shown."""
    columns = {c.name: c for c in aggregate.columns if c.kind == Kind.NUMBER}
    exact = rows[list(columns)].apply(pd.to_numeric).astype(float)
    if not rule.on or not len(rows):
        return {name: exact[name] for name in columns}
    if not rule.rounds:
        return {name: _with_k_on_either_side(exact[name], column, rows, rule.k) for name, column in columns.items()}
    counts: dict[str, list[Known]] = {}
    for name in aggregate.names(Kind.COUNT):
        values, rounded_ones = pd.to_numeric(rows[name]).astype(float), shown[name].astype("Float64").astype(float)
        counts[name] = [Known(*one) for one in zip(values, rounded_ones, bases[name], strict=True)]
    if "precision" in rows:
        return _numbers_of_results(rows, exact, counts)
    sd = exact.get("sd", pd.Series(np.nan, rows.index))
    made = {}
    for name, column in columns.items():
        own = zip(exact[name], counts[column.needs[0]], sd, strict=True)
        numbers = [
            rounded_number(value, column, known, spread) if is_publishable(column, known, rule.k) else np.nan
            for value, known, spread in own
        ]
        made[name] = pd.Series(numbers, rows.index, dtype=float)
    return made


def _with_k_on_either_side(numbers: pd.Series[Any], column: Column, rows: pd.DataFrame, k: int) -> pd.Series[Any]:
    """Quantiles that are nobody's own."""
    if column.quantile is None:
        return numbers
    people = pd.to_numeric(rows[column.needs[0]]).astype(float)
    return numbers.where(people * min(column.quantile, 1 - column.quantile) >= k)


def _numbers_of_results(
    rows: pd.DataFrame, exact: pd.DataFrame, counts: dict[str, list[Known]]
) -> dict[str, pd.Series[Any]]:
    estimates = exact.drop(columns="unit_value")
    made = [
        rounded_result(
            {str(name): float(value) for name, value in numbers.items()},
            how,
            {name: known[place] for name, known in counts.items()},
            is_chi_square="chi-square" in measure,
        )
        for place, (numbers, how, measure) in enumerate(
            zip(estimates.to_dict("records"), rows["precision"], rows["measure"], strict=True)
        )
    ]
    found = pd.DataFrame(made, index=rows.index, columns=estimates.columns)
    size = exact["unit_value"].map(lambda value: to_digits(value, _DIGITS_OF_SIZES))
    return {"unit_value": size} | {str(name): found[name] for name in found}


def is_publishable(column: Column, known: Known, k: int) -> bool:
    """Return whether enough people lie on either side of a quantile, so that it is nobody's own."""
    if column.quantile is None:
        return True
    return bool(known.shown * min(column.quantile, 1 - column.quantile) >= k)


def rounded_number(value: float, column: Column, known: Known, sd: float) -> float:
    """Return a number of a table, rounded as its column says; `known` is the count that decides.

    `sd` is the standard deviation of what it is a mean or quantile of; NaN where not known.
    """
    if not np.isfinite(value):
        return value
    if column.precision == Precision.P:
        return rounded_p(value)
    if column.precision == Precision.TIME:
        return to_step(value, _HALF_A_YEAR)
    if not known.is_there:
        return to_digits(value, _digits(known, is_of_people=True))
    if column.precision == Precision.SHARE:
        return to_step(value, known.base / known.shown)
    if column.precision == Precision.MEAN and sd > 0:
        return to_step(value, nice(known.base * sd / known.shown))
    return to_digits(value, _digits(known, is_of_people=column.precision == Precision.MEAN))


def rounded_result(
    row: Mapping[str, float], how: str, counts: Mapping[str, Known], *, is_chi_square: bool
) -> dict[str, float]:
    """Return the numbers of one row of the results, rounded.

    `row` has estimate, se, lo, hi, p, p_ph and q, exact, NaN where there is none. `how` is "mean"
    for a mean over people, "share" for a share of people, "rounded" for what was computed from
    rounded counts and is not rounded again, and "" for all else. An estimate that `is_chi_square`
    grows with n.
    """
    if how == "rounded":
        return dict(row)
    behind, is_of_people = _behind(counts)
    widening = 1.0
    if behind.is_there and (how or is_of_people):
        widening = math.sqrt(behind.exact / behind.shown)
    estimate, se = row["estimate"], row["se"] * widening
    step = _step(how, row, widening, counts["n_people"])
    if is_chi_square:
        estimate /= widening**2
    if step:
        estimate = to_step(estimate, step)
    digits = _digits(behind, is_of_people=is_of_people)
    limits = _limits(row, estimate, widening, behind if is_of_people else None)
    made = dict(row)
    made["estimate"] = estimate if step else to_digits(estimate, digits)
    if not limits.is_symmetric and behind.shown < _MANY * behind.base:
        digits = 2
    made["se"] = to_digits(se, digits)
    made["lo"], made["hi"] = (
        to_step(value, step) if how == "share" else to_digits(value, digits) for value in (limits.lo, limits.hi)
    )
    if behind.is_there and not is_of_people and not how:
        return made | {name: to_digits(row[name], 2) for name in ("p", "p_ph", "q")}
    z = stats.norm.isf(row["p"] / 2) / limits.widening
    made["p"] = rounded_p(float(2 * stats.norm.sf(z)))
    made["p_ph"], made["q"] = rounded_p(row["p_ph"]), rounded_p(row["q"])
    return made


def rounded_p(p: float) -> float:
    """Return a P value with two digits; 0.0009 where it is below 0.001."""
    return _LESS if p < _LEAST_P else to_digits(p, 2)


def to_digits(value: float, digits: int) -> float:
    """Return a number with so many significant digits."""
    return float(f"{value:.{digits - 1}e}") if np.isfinite(value) else value


def to_step(value: float, step: float) -> float:
    """Return the nearest multiple of a step, with no more digits than the step has."""
    if not (np.isfinite(value) and step > 0):
        return value
    return to_digits(round(value / step) * step, 12)


def _digits(known: Known, *, is_of_people: bool) -> int:
    if known.shown >= _MANY * known.base:
        return 4
    return 2 if is_of_people and not known.shown >= _FEW * known.base else 3


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
# To a scale and back, and the values that it takes.
_SCALES: Final[Sequence[tuple[_Function, _Function, float, float]]] = (
    (float, float, -math.inf, math.inf),
    (math.log, math.exp, 0.0, math.inf),
    (math.atanh, math.tanh, -1.0, 1.0),
)


class _Limits(NamedTuple):
    """An interval around the rounded estimate, before digits are cut."""

    lo: float
    hi: float
    is_symmetric: bool  # whether a scale is known on which it lies around its estimate
    widening: float  # how much wider it is than the exact one, on that scale


def _limits(row: Mapping[str, float], estimate: float, widening: float, people: Known | None) -> _Limits:
    """Limits around the rounded estimate.

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
    lo, hi = back(around - widening * (middle - lo)), back(around + widening * (hi - middle))
    return _Limits(lo, hi, is_symmetric=False, widening=widening)


def _widening_of_z(half: float, behind: Known) -> float:
    """Return how much Fisher's z widens; its error is one over the root of n less a few."""
    if not behind.is_there:
        return 1.0
    freedom = (_Z95 / half) ** 2
    shown = freedom + behind.shown - behind.exact
    return math.sqrt(freedom / shown) if shown > 1 else 1.0
