"""Net reclassification over risk categories. No report shows it by default."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from analysis.statistics.accuracy.diagnostic import checked_thresholds
from analysis.statistics.columns import Missing, TableRefused
from analysis.statistics.limits import normal_quantile
from analysis.statistics.risk.outcome import Flags, Jackknife, Outcome, jackknife, read_outcome

Floats = NDArray[np.float64]

_MOVES: Final = ("up", "down")

CAVEAT: Final = (
    "The net reclassification index is no proper score: a miscalibrated model, or one with noise "
    "added, can gain by it. It depends on the cuts, and the sum of its two parts has no meaning of "
    "its own. Judge a model by calibration, Brier score, AUC and net benefit."
)


@dataclass(frozen=True, slots=True)
class CategoryNri:
    """Net reclassification of people with and without the event by the horizon.

    Attributes:
        estimates: three rows, `part` "events", "non_events" and "sum" of both: `nri`, `se`,
            `nri_lo`, `nri_hi`, `z`, `p`.
        moves: one row a direction, `direction` "up", "down" and "same": `n`, `observed` (risk by
            the horizon, Aalen-Johansen; NaN for nobody).
        thresholds: that cut the categories.
        at: the horizon.
        n: people.
        observed: risk of all by the horizon.
        confidence: of the limits.
        n_dropped_missing: rows left out because a used column was missing.
        caveat: to be shown wherever a number of this is shown.
        warnings: what to know before use.
    """

    estimates: pd.DataFrame
    moves: pd.DataFrame
    thresholds: tuple[float, ...]
    at: float
    n: int
    observed: float
    confidence: float
    n_dropped_missing: int
    caveat: str
    warnings: tuple[str, ...]


def category_nri(
    table: pd.DataFrame,
    *,
    duration: str,
    event: str,
    old: str,
    new: str,
    thresholds: Sequence[float],
    at: float,
    event_of_interest: int = 1,
    causes: Sequence[int] = (1, 2),
    confidence: float = 0.95,
    missing: Missing = "refuse",
) -> CategoryNri:
    """Return the net reclassification index over risk categories, under censoring.

    Not for use by default: the index is no proper score, a miscalibrated model can gain by it, it
    depends on the cuts, and the sum of its parts has no meaning of its own (Hilden and Gerds
    2014; Kerr 2014). The result carries this as `caveat`.

    With F the cumulative incidence of the event of interest (Aalen-Johansen) in all and among
    those who move up or down, events: (n_up F_up - n_down F_down) / (n F); non-events, competing
    events among them: (n_down (1 - F_down) - n_up (1 - F_up)) / (n (1 - F)). Censoring must not
    depend on the direction. Errors are from each person's influence by pseudo-values.

    Args:
        table: one row per person.
        duration: column of the exit time, above 0.
        event: column of 0 for censored, else one of the causes.
        old: column of predicted risks within 0 and 1, not scores.
        new: column of those of the other model.
        thresholds: cuts of the categories, above 0 and below 1; a risk at a cut is above it.
        at: the horizon, in the unit of `duration`.
        event_of_interest: one of the causes.
        causes: codes of the events; `(1,)` without competing events.
        confidence: of the limits, which are on the scale itself.
        missing: "refuse" or "drop".

    Returns:
        The parts, and the people who move. `z` and `p` are NaN where the error is 0.

    Raises:
        TableRefused: a column cannot be used, a risk is outside 0 to 1, the observed risk is 0 or
            1, or follow-up of those who move ends before the horizon.
        ValueError: an argument is outside its values.

    Source:
        Pencina MJ, D'Agostino RB, Steyerberg EW, Stat Med 2011;30:11-21, with Aalen-Johansen in
        place of Kaplan-Meier. Caveats: Hilden J, Gerds TA, Stat Med 2014;33:3405-3414; Kerr KF et
        al., Epidemiology 2014;25:114-121.
        R: no package here; written out in tests/golden/risk/make.R with `survfit` and
        `prodlim::jackknife` (without competing events the estimates are those of
        `nricens::nricens(..., niter = 0)`).
    """
    z = normal_quantile(confidence)
    cuts = checked_thresholds(thresholds)
    columns, outcome, names = read_outcome(table, [old, new], duration, event, at, event_of_interest, causes, missing)
    before, after = (np.searchsorted(cuts, columns.risks(n), side="right") for n in names)
    directions = {"up": after > before, "down": after < before, "same": after == before}
    _refuse_short(outcome, directions, duration)
    found = {name: _incidence(outcome, rows) for name, rows in directions.items()}
    observed, everybody = jackknife(outcome)
    _refuse_one_class(outcome, observed, event)
    values, influence = _index(directions, found, observed, everybody)
    return CategoryNri(
        estimates=_estimates(values, influence, z),
        moves=_moves(directions, found),
        thresholds=tuple(cuts.tolist()),
        at=outcome.at,
        n=columns.n,
        observed=observed,
        confidence=confidence,
        n_dropped_missing=columns.n_dropped_missing,
        caveat=CAVEAT,
        warnings=outcome.warnings(),
    )


def _refuse_one_class(outcome: Outcome, observed: float, event: str) -> None:
    if not 0 < observed < 1:
        raise TableRefused(
            f"column {event!r} has an observed risk of {observed:g} by {outcome.at:g}, expected "
            "some people with the event of interest and some without"
        )


def _refuse_short(outcome: Outcome, directions: dict[str, Flags], duration: str) -> None:
    for name in _MOVES:
        exits = outcome.exits[directions[name]]
        if len(exits) and exits.max() < outcome.at:
            raise TableRefused(
                f"column {duration!r} of the {len(exits)} people who move {name} ends at "
                f"{exits.max():g}, expected follow-up to at={outcome.at:g}; choose another horizon "
                "or other thresholds"
            )


def _incidence(outcome: Outcome, rows: Flags) -> Jackknife:
    """Return the incidence among some people, and pseudo-values that are 0 for the others."""
    values = np.zeros(len(rows))
    if not rows.any():
        return Jackknife(0.0, values)
    estimate, values[rows] = jackknife(Outcome(outcome.exits[rows], outcome.statuses[rows], outcome.at))
    return Jackknife(estimate, values)


def _index(
    directions: dict[str, Flags], found: dict[str, Jackknife], observed: float, everybody: Floats
) -> tuple[Floats, Floats]:
    """Return both parts of the index, (2,), and what each person adds to them, (2, n)."""
    up, down = directions["up"], directions["down"]
    events_up, events_down = (found[name].estimate * directions[name].mean() for name in _MOVES)
    events = (events_up - events_down) / observed
    others = (down.mean() - events_down - up.mean() + events_up) / (1 - observed)
    gain = found["up"].values - found["down"].values
    loss = (down - found["down"].values) - (up - found["up"].values)
    influence = [(gain - events * everybody) / observed, (loss - others * (1 - everybody)) / (1 - observed)]
    return np.array([events, others]), np.stack(influence)


def _moves(directions: dict[str, Flags], found: dict[str, Jackknife]) -> pd.DataFrame:
    rows = []
    for name, flags in directions.items():
        n = int(flags.sum())
        rows.append({"direction": name, "n": n, "observed": found[name].estimate if n else np.nan})
    return pd.DataFrame(rows)


def _estimates(parts: Floats, influence: Floats, z: float) -> pd.DataFrame:
    values = np.append(parts, parts.sum())
    stacked = np.vstack([influence, influence.sum(axis=0)])
    se = stacked.std(axis=1, ddof=1) / np.sqrt(stacked.shape[1])
    statistic = np.divide(values, se, out=np.full(3, np.nan), where=se > 0)
    return pd.DataFrame(
        {
            "part": ["events", "non_events", "sum"],
            "nri": values,
            "se": se,
            "nri_lo": values - z * se,
            "nri_hi": values + z * se,
            "z": statistic,
            "p": 2 * stats.norm.sf(np.abs(statistic)),
        }
    )
