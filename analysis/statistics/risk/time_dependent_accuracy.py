"""Brier score and AUC of predicted risks at a horizon, with weights for censoring."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from analysis.statistics.columns import Missing, TableRefused
from analysis.statistics.limits import logit_limits, normal_quantile
from analysis.statistics.risk.outcome import Outcome, read_outcome
from analysis.statistics.survival.risk_sets import censoring_curve, count_risk_sets, step_values

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class BrierScore:
    """Brier scores at a horizon, of one or several models on the same people.

    Attributes:
        estimates: one row per model: `model` (the column of the risk), `brier`, `se`, `brier_lo`,
            `brier_hi`, `scaled_brier` (1 less its share of `null_brier`), `scaled_brier_se`,
            `scaled_brier_lo`, `scaled_brier_hi`.
        null_brier: of the observed cumulative incidence as everybody's risk.
        null_se: its error.
        differences: one row per pair of models, in their order: `model_a`, `model_b`, `difference`
            (of a less that of b), `se`, `difference_lo`, `difference_hi`, `z`, `p`.
        at: the horizon.
        n: people.
        n_events: of them with the event of interest by the horizon.
        n_competing: with another event by the horizon.
        n_censored: lost before or at the horizon; their weight is 0.
        n_beyond: followed beyond the horizon without event.
        confidence: of the limits.
        n_dropped_missing: rows left out because a used column was missing.
        warnings: what to know before use.
    """

    estimates: pd.DataFrame
    null_brier: float
    null_se: float
    differences: pd.DataFrame
    at: float
    n: int
    n_events: int
    n_competing: int
    n_censored: int
    n_beyond: int
    confidence: float
    n_dropped_missing: int
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TimeDependentAuc:
    """AUC at a horizon, of one or several models on the same people.

    Attributes:
        estimates: one row per model: `model` (the column of the risk), `auc`, `se`, `auc_lo`,
            `auc_hi`; limits are on the logit scale, NaN at 0 and 1.
        differences: as those of `BrierScore`.
        at: the horizon.
        n: people.
        n_events: cases, with the event of interest by the horizon.
        n_competing: controls, with another event by the horizon.
        n_censored: lost before or at the horizon; their weight is 0.
        n_beyond: controls, followed beyond the horizon without event.
        confidence: of the limits.
        n_dropped_missing: rows left out because a used column was missing.
        warnings: what to know before use.
    """

    estimates: pd.DataFrame
    differences: pd.DataFrame
    at: float
    n: int
    n_events: int
    n_competing: int
    n_censored: int
    n_beyond: int
    confidence: float
    n_dropped_missing: int
    warnings: tuple[str, ...]


def brier_score(
    table: pd.DataFrame,
    *,
    duration: str,
    event: str,
    risk: str | Sequence[str],
    at: float,
    event_of_interest: int = 1,
    causes: Sequence[int] = (1, 2),
    confidence: float = 0.95,
    missing: Missing = "refuse",
) -> BrierScore:
    """Return the Brier score of predicted risks at a horizon, and compare models.

    The mean of (status - risk)^2, status 1 with the event of interest by the horizon and 0 else,
    competing events included. Weights for censoring are 1 / G(T-) for those with an event by the
    horizon and 1 / G(horizon) for those followed beyond it, G Kaplan-Meier's curve of censoring,
    which must not depend on the risk. Errors come from the influence of each person, that through
    G included; limits are on the scale itself, within 0 and 1.

    Args:
        table: one row per person.
        duration: column of the exit time, above 0.
        event: column of 0 for censored, else one of the causes.
        risk: column of predicted risks within 0 and 1, not scores, or several.
        at: the horizon, in the unit of `duration`.
        event_of_interest: one of the causes.
        causes: codes of the events; `(1,)` without competing events.
        confidence: of the limits.
        missing: "refuse", or "drop" rows where any used column is missing, so that all models are
            judged on the same people.

    Returns:
        Scores, scaled scores (the index of prediction accuracy) and differences. In a difference
        `z` and `p` are NaN where the error is 0.

    Raises:
        TableRefused: a column cannot be used, a risk is outside 0 to 1, nobody has the event by
            the horizon or everybody has, or nobody is followed to it.
        ValueError: an argument is outside its values.

    Source:
        Graf E et al., Stat Med 1999;18:2529-2545. Gerds TA, Schumacher M, Biom J
        2006;48:1029-1040. Scaled: Kattan MW, Gerds TA, Diagn Progn Res 2018;2:7. Errors: the
        derivative of the score in each person's weight, as in Blanche P et al., Biometrics
        2015;71:102-113.
        R: `riskRegression::Score(list(risk), Hist(duration, event) ~ 1, data, times = at,
        cause = 1, metrics = "brier", summary = "ipa", cens.model = "km", conservative = FALSE)`
    """
    z = normal_quantile(confidence)
    columns, outcome, names = read_outcome(table, risk, duration, event, at, event_of_interest, causes, missing)
    refuse_one_class(outcome, event)
    censoring = censoring_weights(outcome)
    observed = float((censoring.weights * outcome.cases).sum() / columns.n)
    risks = np.stack([np.full(columns.n, observed), *(columns.risks(n) for n in names)])
    scores, influence = _brier(outcome, censoring, risks)
    null = scores[0]
    scaled = _limits("scaled_brier", 1 - scores / null, _scaled(scores, influence), z, high=1.0)
    estimates = {**_limits("brier", scores, influence, z, low=0.0, high=1.0), **scaled}
    return BrierScore(
        estimates=_rows(names, {key: values[1:] for key, values in estimates.items()}),
        null_brier=float(null),
        null_se=float(estimates["brier_se"][0]),
        differences=_differences(names, scores[1:], influence[1:], z),
        at=outcome.at,
        **outcome.counts(),
        confidence=confidence,
        n_dropped_missing=columns.n_dropped_missing,
        warnings=outcome.warnings(),
    )


def auc_at(
    table: pd.DataFrame,
    *,
    duration: str,
    event: str,
    risk: str | Sequence[str],
    at: float,
    event_of_interest: int = 1,
    causes: Sequence[int] = (1, 2),
    confidence: float = 0.95,
    missing: Missing = "refuse",
) -> TimeDependentAuc:
    """Return the AUC of predicted risks at a horizon, and compare models.

    Cases have the event of interest by the horizon. Everybody else whose state is known is a
    control: those followed beyond it, and those with a competing event by it. Weights for
    censoring and errors are as for `brier_score`; a tie of risks counts one half.

    Args:
        table: one row per person.
        duration: column of the exit time, above 0.
        event: column of 0 for censored, else one of the causes.
        risk: column of predicted risks within 0 and 1, not scores, or several.
        at: the horizon, in the unit of `duration`.
        event_of_interest: one of the causes.
        causes: codes of the events; `(1,)` without competing events.
        confidence: of the limits.
        missing: as for `brier_score`.

    Returns:
        AUCs and differences. In a difference `z` and `p` are NaN where the error is 0.

    Raises:
        TableRefused: a column cannot be used, a risk is outside 0 to 1, there are no cases or no
            controls, or nobody is followed to the horizon.
        ValueError: an argument is outside its values.

    Source:
        Blanche P, Dartigues JF, Jacqmin-Gadda H, Stat Med 2013;32:5381-5397, definition (ii) with
        competing events.
        R: `riskRegression::Score(list(risk), Hist(duration, event) ~ 1, data, times = at,
        cause = 1, metrics = "auc", cens.model = "km", conservative = FALSE)`
    """
    z = normal_quantile(confidence)
    columns, outcome, names = read_outcome(table, risk, duration, event, at, event_of_interest, causes, missing)
    refuse_one_class(outcome, event)
    censoring = censoring_weights(outcome)
    risks = np.stack([columns.risks(name) for name in names])
    areas, influence = _areas(outcome, censoring, risks)
    errors = _errors(influence)
    bounds = [logit_limits(area, se, confidence=confidence) for area, se in zip(areas, errors, strict=True)]
    lo, hi = np.array(bounds).T
    found = {"auc": areas, "auc_se": errors, "auc_lo": lo, "auc_hi": hi}
    return TimeDependentAuc(
        estimates=_rows(names, found),
        differences=_differences(names, areas, influence, z),
        at=outcome.at,
        **outcome.counts(),
        confidence=confidence,
        n_dropped_missing=columns.n_dropped_missing,
        warnings=outcome.warnings(),
    )


def refuse_one_class(outcome: Outcome, event: str) -> None:
    """Refuse an outcome without cases or without controls by the horizon."""
    cases = int(outcome.cases.sum())
    controls = int((outcome.others | outcome.beyond).sum())
    if cases == 0 or controls == 0:
        raise TableRefused(
            f"column {event!r} has {cases} people with the event of interest by {outcome.at:g} "
            f"and {controls} known to be without it, expected both; choose another horizon"
        )


@dataclass(frozen=True, slots=True)
class CensoringWeights:
    """Weights of people whose state at the horizon is known, and the curve behind them."""

    # (n,) 1 / G(T-) for an event by the horizon, 1 / G(horizon) for those followed beyond it, 0 for
    # those censored by then
    weights: Floats
    times: Floats  # (J,) times of censoring by the horizon
    at_risk: Floats  # (J,) people at risk at each, those with an event at the time among them
    censored: Floats  # (J,) censored at each
    before: NDArray[np.int64]  # (n,) how many of the times come before each person's exit
    until: NDArray[np.int64]  # (n,) how many come before it or with it
    # (n,) place in `times` of the own censoring by the horizon, -1 without one
    own: NDArray[np.int64]

    def with_estimation(self, parts: Floats) -> Floats:
        """Return the (k, n) influence of each person on sums of parts, estimated weights included.

        A part is in proportion to its person's weight. With Y at risk and c censored at a time u,
        and Q(u) the sum of the parts of those who exit after u, a person adds Q / Y at the own
        censoring and takes c Q / Y^2 at each censoring time while at risk. This is the martingale
        of the curve of censoring as riskRegression counts it: people with an event at u are among
        Y, though not in the curve itself, where the event comes first. The exact derivative has
        the others alone for Y; that moves errors by some 1e-4 of themselves with monthly ties, by
        more for the null model where half have the event, and hardly without ties.
        """
        size = len(self.times)
        found = np.empty_like(parts)
        for row, part in enumerate(parts):
            after = np.bincount(self.before, part, size + 1)
            later = np.cumsum(after[::-1])[::-1][1:]
            taken = np.cumsum(np.concatenate([[0.0], self.censored * later / self.at_risk**2]))
            added = np.append(later / self.at_risk, 0.0)[self.own]
            found[row] = part + added - taken[self.until]
        return found


def censoring_weights(outcome: Outcome) -> CensoringWeights:
    """Return the weights of an outcome, from the Kaplan-Meier curve G of the time to censoring.

    At a tie the event comes first, so that people with an event at a time are no longer at risk of
    being censored at it. So people followed beyond the horizon or with an event never have G = 0.

    Source:
        Graf E et al., Stat Med 1999;18:2529-2545; Gerds TA, Schumacher M, Biom J 2006;48:1029.
        R: `prodlim(Hist(duration, event) ~ 1, reverse = TRUE)`,
        `predictSurvIndividual(fit, lag = 1)`.
    """
    exits = outcome.exits
    risk = count_risk_sets(exits, outcome.statuses, n_causes=2)
    used = (risk.n_censored > 0) & (risk.times <= outcome.at)
    times, censored = risk.times[used], risk.n_censored[used]
    at_risk = risk.n_at_risk[used]
    known = outcome.cases | outcome.others | outcome.beyond
    uncensored = censoring_curve(risk).uncensored[used]
    read = step_values(times, uncensored, exits, start=1.0, left=True)
    gone = ~known
    own = np.full(len(exits), -1, dtype=np.int64)
    own[gone] = np.searchsorted(times, exits[gone])
    return CensoringWeights(
        weights=np.where(known, 1 / read, 0.0),
        times=times,
        at_risk=at_risk,
        censored=censored,
        before=np.searchsorted(times, exits, side="left"),
        until=np.searchsorted(times, exits, side="right"),
        own=own,
    )


def _brier(outcome: Outcome, censoring: CensoringWeights, risks: Floats) -> tuple[Floats, Floats]:
    """Return (k,) scores and (k, n) influences."""
    parts = censoring.weights * (outcome.cases - risks) ** 2
    scores = parts.mean(axis=1)
    return scores, censoring.with_estimation(parts) - scores[:, None]


def _scaled(scores: Floats, influence: Floats) -> Floats:
    """Return the influence on 1 - score / score of the null model, which is the first.

    The null model's own estimate does not count: its score is at its lowest there.
    """
    ratio = (scores / scores[0])[:, None]
    return np.asarray((ratio * influence[0] - influence) / scores[0])


def _areas(outcome: Outcome, censoring: CensoringWeights, risks: Floats) -> tuple[Floats, Floats]:
    """Return (k,) AUCs and (k, n) influences."""
    case = np.where(outcome.cases, censoring.weights, 0.0)
    control = censoring.weights - case
    case, control = case / case.sum(), control / control.sum()
    areas, parts = np.empty(len(risks)), np.empty_like(risks)
    for row, risk in enumerate(risks):
        values, place = np.unique(risk, return_inverse=True)
        controls = np.bincount(place, control, len(values))
        cases = np.bincount(place, case, len(values))
        below = (np.cumsum(controls) - controls / 2)[place]
        above = (np.cumsum(cases[::-1])[::-1] - cases / 2)[place]
        areas[row] = case @ below
        parts[row] = case * (below - areas[row]) + control * (above - areas[row])
    return areas, risks.shape[1] * censoring.with_estimation(parts)


def _errors(influence: Floats) -> Floats:
    n = influence.shape[-1]
    return np.asarray(influence.std(axis=-1, ddof=1) / np.sqrt(n))


def _limits(
    name: str, values: Floats, influence: Floats, z: float, *, low: float = -np.inf, high: float
) -> dict[str, Floats]:
    se = _errors(influence)
    return {
        name: values,
        f"{name}_se": se,
        f"{name}_lo": np.maximum(values - z * se, low),
        f"{name}_hi": np.minimum(values + z * se, high),
    }


def _rows(names: Sequence[str], values: dict[str, Floats]) -> pd.DataFrame:
    """Return one row per model; the error of the statistic itself is called `se`."""
    frame = pd.DataFrame({"model": list(names), **values})
    return frame.rename(columns={"brier_se": "se", "auc_se": "se"})


def _differences(names: Sequence[str], values: Floats, influence: Floats, z: float) -> pd.DataFrame:
    rows: list[dict[str, Any]] = []
    for a, b in combinations(range(len(names)), 2):
        difference = float(values[a] - values[b])
        se = float(_errors(influence[a] - influence[b]))
        statistic = difference / se if se > 0 else np.nan
        rows.append(
            {
                "model_a": names[a],
                "model_b": names[b],
                "difference": difference,
                "se": se,
                "difference_lo": difference - z * se,
                "difference_hi": difference + z * se,
                "z": statistic,
                "p": 2 * float(stats.norm.sf(abs(statistic))),
            }
        )
    columns = ["model_a", "model_b", "difference", "se", "difference_lo", "difference_hi", "z", "p"]
    return pd.DataFrame(rows, columns=columns)
