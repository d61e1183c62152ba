"""Tables of a study before masking: exact counts and estimates; no row is a person's.

Everything that leaves a study (tables, figures, results, the page) is drawn from such tables after
`analysis.disclosure.masking`; nothing that draws ever sees a person's row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, Literal

import pandas as pd

from analysis.disclosure.counts import Count, Relation
from analysis.disclosure.meanings import of_results


class Kind(StrEnum):
    """What a column holds, which decides how it is masked."""

    LABEL = "label"  # text, or a number that is not about people (a bound, a time, a unit)
    COUNT = "count"  # people, ECGs or events; masked and rounded
    PERSON_YEARS = "person_years"  # rounded; hidden where a count that it needs is hidden
    # An estimate; hidden where a count that it needs is hidden, and rounded so that no count can be
    # computed from it more finely than it is shown.
    NUMBER = "number"
    # Free text, which may hold exact counts or values; hidden where a count that it needs is
    # hidden, else replaced where it has digits.
    NOTE = "note"


class Precision(StrEnum):
    """How a NUMBER is rounded; see `analysis.disclosure.masking`."""

    DIGITS = "digits"  # three significant digits, two where few people or events are behind it
    MEAN = "mean"  # a mean, quantile or spread of single people: to what a few people change it
    SHARE = "share"  # of people: in steps of as many people as counts are rounded to
    P = "p"  # two digits from 0.001 on
    TIME = "time"  # half years


@dataclass(frozen=True, slots=True)
class Column:
    """A column of an aggregate."""

    name: str  # with its unit, as in `mean_g_m2`
    kind: Kind  # how it is masked
    meaning: str  # one line, for the list of columns
    # Count columns of the same row, none of which may be hidden for it to be shown; the first
    # decides how far it is rounded.
    needs: tuple[str, ...] = ()
    precision: Precision = Precision.DIGITS  # how it is rounded
    # Share of the people below it, where it is a quantile; it is shown only if k people lie on
    # either side.
    quantile: float | None = None


@dataclass(frozen=True, slots=True)
class Thinned:
    """A curve: under the rule `strict` it moves only in steps of enough events.

    Under `standard` it keeps its steps, ends where few are at risk, and is hidden where there are
    few events at its end.
    """

    events: str  # count column: events so far, which never falls along a curve
    within: tuple[str, ...]  # label columns of one curve
    # For each row what counts the events of its curve at the end; () where not known.
    ends: Sequence[Count | None] = ()
    at_risk: str = ""  # count column: people at risk just before the row's time; "" where not known
    times: str = ""  # label column of times, which `strict` rounds to multiples of `step`
    step: float = 0.0


@dataclass(frozen=True, slots=True)
class Blocks:
    """Counts that are all left out, in all rows of a group, as soon as one of them is small."""

    columns: tuple[str, ...]  # count columns
    within: tuple[str, ...]  # label columns that rows of a group share


@dataclass(frozen=True, slots=True)
class Ticks:
    """Counts at times of a follow-up: people still there, and those gone before by each reason.

    Readers subtract one time from the next. Under `standard` a time is left out for all groups
    where fewer than k people of one group are there or left since the time before, and reasons are
    left out at all times where fewer than k people of one group left for one of them.
    """

    there: str  # count column, which never rises
    gone: tuple[str, ...]  # count columns that never fall; with `there` they add up to everybody
    times: str  # label column
    group: str  # label column of the groups at one time
    within: tuple[str, ...]  # label columns that the groups share


@dataclass(frozen=True, slots=True)
class Aggregate:
    """A table of counts and estimates before masking."""

    key: str  # its name, also of its file
    rows: pd.DataFrame  # the values; counts are whole numbers, 0 or more, or missing where not applicable
    columns: tuple[Column, ...]  # of `rows`, in order
    # Label columns: of the rows that share them, all numbers are hidden as soon as one row's are,
    # since it could be computed from the others. None: each row alone.
    together: tuple[str, ...] | None = None
    # "hide" the cells of small counts, or "drop" the rows (bins of histograms and hexagons).
    small: Literal["hide", "drop"] = "hide"
    thinned: Thinned | None = None  # for curves
    blocks: Blocks | None = None  # for tables of combinations
    ticks: Ticks | None = None  # for numbers at risk
    # Of each row, whether only an exact report has it; () for none.
    exact_only: Sequence[bool] = ()
    # Of the rows of `rows`, values that replace the exact ones as soon as anything is masked;
    # missing where the exact ones stay. For what is computed from counts alone, and would be more
    # exact than the rounded counts beside it.
    coarse: pd.DataFrame | None = None
    # For columns of counts and person-years, what is counted in each row, or None where nothing
    # else is related to it. What adds up, also with other tables, follows from it.
    counts: Mapping[str, Sequence[Count | None]] = field(default_factory=dict)
    related: tuple[Relation, ...] = ()  # how counts are related beyond that

    def __post_init__(self) -> None:
        names = [column.name for column in self.columns]
        if list(self.rows.columns) != names:
            raise ValueError(f"aggregate {self.key!r} has columns {list(self.rows.columns)}, expected {names}")
        counts = set(self.names(Kind.COUNT))
        for name, described in self.counts.items():
            if name not in names or len(described) != len(self.rows):
                raise ValueError(
                    f"aggregate {self.key!r} describes {len(described)} counts of {name!r}, "
                    f"expected one for each of {len(self.rows)} rows"
                )
        for column in self.columns:
            unknown = set(column.needs) - counts
            if unknown:
                raise ValueError(
                    f"column {column.name!r} of {self.key!r} needs {sorted(unknown)}, "
                    f"expected count columns: {sorted(counts)}"
                )
        for name in counts:
            values = pd.to_numeric(self.rows[name]).dropna()
            if ((values < 0) | (values != values.round())).any():
                raise ValueError(f"count {name!r} of {self.key!r} is negative or not whole")

    def names(self, kind: Kind) -> list[str]:
        """Return the columns of one kind, in order."""
        return [column.name for column in self.columns if column.kind == kind]


def label(name: str, meaning: str) -> Column:
    """Return a column of labels."""
    return Column(name, Kind.LABEL, meaning)


def count(name: str, meaning: str) -> Column:
    """Return a column of counts."""
    return Column(name, Kind.COUNT, meaning)


def number(
    name: str, meaning: str, *needs: str, precision: Precision = Precision.DIGITS, quantile: float | None = None
) -> Column:
    """Return a column of estimates that need counts of the same row."""
    return Column(name, Kind.NUMBER, meaning, needs, precision, quantile)


def person_years(name: str, meaning: str, *needs: str) -> Column:
    """Return a column of person-years."""
    return Column(name, Kind.PERSON_YEARS, meaning, needs)


_ESTIMATED: Final = ("n_people", "n_events", "n_events_fewest")
# They decide what is hidden and how numbers are rounded, and are never exported.
NEVER: Final = frozenset({"n_at_risk_before", "n_events_fewest", "n_people_fewest", "precision"})

# One row per estimate; every topic's estimates together are results.parquet.
RESULT_COLUMNS: Final = (
    label("analysis", "topic, as hazard_ratios, concordance, cmr_agreement"),
    label("measure", "what the estimate is, as hazard ratio, concordance, r, bias_g"),
    label("outcome", "of the code list, or empty"),
    label("primary", "whether it is the primary outcome"),
    label("exposure", "column of the predictions"),
    label("contrast", "as per SD, per 10, LVH, quartile 4 against 1"),
    label("unit", "unit of the contrast"),
    number("unit_value", "size of one step in the exposure's unit", "n_people"),
    label("model", "number of the model, or empty"),
    label("adjustment", "covariates of the model"),
    label("strata", "classification or variant, as sex, latency; empty for everybody"),
    label("level", "of strata, as female, 30 days"),
    count("n_people", "people analysed"),
    count("n_ecgs", "ECGs analysed"),
    count("n_events", "people with the event, however many ECGs, or with what is classified"),
    count("n_events_fewest", "people with the event in the arm that has fewest; never exported"),
    count("n_people_fewest", "people in the arm that has fewest; never exported"),
    label("precision", "how the estimate depends on counts, see masking.py; never exported"),
    person_years("person_years", "follow-up, years, added over ECGs", "n_people"),
    number("estimate", "value of the measure", *_ESTIMATED),
    number("se", "standard error, of the logarithm for ratios", *_ESTIMATED),
    number("lo", "lower 95 % limit", *_ESTIMATED),
    number("hi", "upper 95 % limit", *_ESTIMATED),
    number("p", "P value; where there are no events 0.0009 means below 0.001", *_ESTIMATED, precision=Precision.P),
    number("p_ph", "P value for proportional hazards of the exposure", *_ESTIMATED, precision=Precision.P),
    number("q", "Benjamini-Hochberg q-value over the secondary outcomes", *_ESTIMATED, precision=Precision.P),
    label("ties", "efron, or empty"),
    label("se_type", "model, robust, by person, bootstrap, DeLong ..."),
    label("time_scale", "days since the index ECG, or attained age"),
    count("n_dropped_missing", "rows left out because a covariate is missing"),
    label("model_id", "of the predictions; where they are of several and are not apart, all"),
    Column("warnings", Kind.NOTE, "what to know before quoting it", _ESTIMATED),
)
_COUNTED: Final = "counted"
_RESULT_NAMES: Final = tuple(column.name for column in RESULT_COLUMNS)
# Rows of one such group differ in their subgroup only: all are hidden as soon as one is.
_RESULT_GROUP: Final = ("analysis", "measure", "outcome", "exposure", "contrast", "model", "strata", "model_id")
_TEXTS: Final = tuple(column.name for column in RESULT_COLUMNS if column.kind in (Kind.LABEL, Kind.NOTE))


def result(analysis: str, measure: str, **values: Any) -> dict[str, Any]:
    """Return one row of the results; what is not given is empty or missing.

    `values` are other columns of RESULT_COLUMNS. `n_events_fewest` is that of the smallest arm
    (yes/no exposures, classifications); without it `n_events` alone decides. `counted` is not a
    column: it holds the people of the row, as `meanings.Analysed`, or None where not known.
    """
    unknown = sorted(set(values) - {*_RESULT_NAMES, _COUNTED})
    if unknown:
        raise ValueError(f"{unknown} are no columns of the results: {', '.join(_RESULT_NAMES)}")
    empty = {name: "" if name in _TEXTS else None for name in (*_RESULT_NAMES, _COUNTED)}
    return empty | {"analysis": analysis, "measure": measure} | values


def results(
    key: str, rows: list[dict[str, Any]], counts: Mapping[str, Sequence[Count | None]] | None = None
) -> Aggregate:
    """Return rows of `result` as an aggregate; without `counts`, the rows say what they count."""
    table = pd.DataFrame(rows, columns=list(_RESULT_NAMES))
    if counts is None:
        one_ecg_each = all(row["n_ecgs"] in (None, row["n_people"]) for row in rows)
        counts = of_results([row[_COUNTED] for row in rows], one_ecg_each=one_ecg_each)
    return Aggregate(f"results_{key}", table, RESULT_COLUMNS, together=_RESULT_GROUP, counts=counts)
