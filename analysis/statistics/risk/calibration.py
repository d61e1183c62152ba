"""Agreement of predicted risks with what was observed, as a whole and by group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.statistics.columns import Columns, Missing, TableRefused
from analysis.statistics.limits import CiKind, normal_quantile
from analysis.statistics.risk.outcome import Outcome, jackknife, read_outcome
from analysis.statistics.survival.aalen_johansen import cumulative_incidence
from analysis.statistics.survival.splines import restricted_cubic_spline

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ObservedExpected:
    """Observed over expected risk at a horizon.

    Attributes:
        estimates: one row per model: `model` (the column of the risk), `observed` (Aalen-Johansen)
            with `observed_se`, `observed_lo`, `observed_hi`, `expected` (mean predicted risk),
            `ratio` = observed / expected, `ratio_lo`, `ratio_hi`.
        at: the horizon.
        n: people.
        n_events: of them with the event of interest by the horizon.
        n_competing: with another event by the horizon.
        n_censored: lost before or at the horizon.
        n_beyond: followed beyond the horizon without event.
        confidence: of the limits.
        n_dropped_missing: rows left out because a used column was missing.
        warnings: what to know before use.
    """

    estimates: pd.DataFrame
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
class GroupCalibration:
    """Observed and predicted risk in groups of predicted risk.

    Attributes:
        estimates: one row per model and group: `model`, `group` (from 1, by ascending risk), `n`,
            `n_events` of interest by the horizon, `risk_min`, `risk_max`, `expected` (mean
            predicted risk), `observed` (Aalen-Johansen), `se`, `observed_lo`, `observed_hi`.
        at: the horizon.
        n: people.
        confidence: of the limits.
        n_dropped_missing: rows left out because a used column was missing.
        warnings: what to know before use.
    """

    estimates: pd.DataFrame
    at: float
    n: int
    confidence: float
    n_dropped_missing: int
    warnings: tuple[str, ...]


def observed_expected(
    table: pd.DataFrame,
    *,
    duration: str,
    event: str,
    risk: str | Sequence[str],
    at: float,
    event_of_interest: int = 1,
    causes: Sequence[int] = (1, 2),
    ci: CiKind = "log-log",
    confidence: float = 0.95,
    missing: Missing = "refuse",
) -> ObservedExpected:
    """Compare the observed risk at a horizon with the mean predicted one.

    Expects risks within 0 and 1 at this horizon, not scores. Observed is the Aalen-Johansen
    cumulative incidence, so that censoring and competing events count. The interval of the ratio
    is symmetric on the log scale and takes the predictions as given: log ratio +- z se(observed)
    / observed.

    Args:
        table: one row per person.
        duration: column of the exit time, above 0.
        event: column of 0 for censored, else one of the causes.
        risk: column of predicted risks, or several for several models.
        at: the horizon, in the unit of `duration`.
        event_of_interest: one of the causes.
        causes: codes of the events; `(1,)` without competing events.
        ci: scale of the limits of the observed risk.
        confidence: of the limits.
        missing: "refuse" or "drop".

    Returns:
        The ratios; limits are NaN where nobody has the event by the horizon.

    Raises:
        TableRefused: a column cannot be used, a risk is outside 0 to 1 or 0 for everybody, or
            nobody is followed to the horizon.
        ValueError: an argument is outside its values.

    Source:
        van Geloven N et al., BMJ 2022;377:e069249.
        R: `s <- summary(survfit(Surv(duration, factor(event)) ~ 1), times = at)`;
        `s$pstate / mean(risk) * exp(c(0, -1, 1) * 1.96 * s$std.err / s$pstate)`
    """
    z = normal_quantile(confidence)
    columns, outcome, names = read_outcome(table, risk, duration, event, at, event_of_interest, causes, missing)
    observed = _observed(outcome, np.zeros(columns.n, dtype=np.int64), ci, confidence).iloc[0]
    rows = [_ratio(columns, name, observed, z) for name in names]
    return ObservedExpected(
        estimates=pd.DataFrame(rows),
        at=outcome.at,
        **outcome.counts(),
        confidence=confidence,
        n_dropped_missing=columns.n_dropped_missing,
        warnings=outcome.warnings(),
    )


def _ratio(columns: Columns, name: str, observed: pd.Series[float], z: float) -> dict[str, Any]:
    expected = float(columns.risks(name).mean())
    if expected == 0:
        raise TableRefused(f"column {name!r} is 0 for everybody, expected some risk above 0")
    share, se = float(observed["cumulative_incidence"]), float(observed["se"])
    width = z * se / share if share > 0 else np.nan
    ratio = share / expected
    return {
        "model": name,
        "observed": share,
        "observed_se": se,
        "observed_lo": observed["lo"],
        "observed_hi": observed["hi"],
        "expected": expected,
        "ratio": ratio,
        "ratio_lo": ratio * np.exp(-width),
        "ratio_hi": ratio * np.exp(width),
    }


def calibration_by_group(
    table: pd.DataFrame,
    *,
    duration: str,
    event: str,
    risk: str | Sequence[str],
    at: float,
    n_groups: int = 10,
    event_of_interest: int = 1,
    causes: Sequence[int] = (1, 2),
    ci: CiKind = "log-log",
    confidence: float = 0.95,
    missing: Missing = "refuse",
) -> GroupCalibration:
    """Compare observed with predicted risk in groups of predicted risk, ten by default.

    Groups are cut at quantiles of the predicted risk (linear between values); a group takes the
    risks above one cut and up to and with the next, so people of the same risk are never parted.
    With many equal risks some cuts coincide and there are fewer groups, which is warned about.

    Args:
        table: one row per person.
        duration: column of the exit time, above 0.
        event: column of 0 for censored, else one of the causes.
        risk: column of predicted risks within 0 and 1, not scores, or several.
        at: the horizon, in the unit of `duration`.
        n_groups: 2 or more.
        event_of_interest: one of the causes.
        causes: codes of the events; `(1,)` without competing events.
        ci: scale of the limits of the observed risk.
        confidence: of the limits.
        missing: "refuse" or "drop".

    Returns:
        The groups; the observed risk is Aalen-Johansen's within each, limits are NaN where it is
        0 or 1.

    Raises:
        TableRefused: a column cannot be used, a risk is outside 0 to 1 or the same for everybody,
            or nobody is followed to the horizon.
        ValueError: an argument is outside its values.

    Source:
        D'Agostino RB, Nam BH, Handbook of Statistics 2003;23:1-25, with Aalen-Johansen in place of
        Kaplan-Meier.
        R: `group <- cut(risk, unique(quantile(risk, 0:10 / 10)), include.lowest = TRUE)`;
        `summary(survfit(Surv(duration, factor(event)) ~ group, conf.type = "log-log"), times = at)`
    """
    normal_quantile(confidence)
    if isinstance(n_groups, bool) or not isinstance(n_groups, int) or n_groups < 2:
        raise ValueError(f"n_groups is {n_groups!r}, expected a whole number of 2 or more")
    columns, outcome, names = read_outcome(table, risk, duration, event, at, event_of_interest, causes, missing)
    parts, warnings = [], list(outcome.warnings())
    for name in names:
        values = columns.risks(name)
        columns.varying_numbers(name)
        part = _by_group(outcome, values, n_groups, ci, confidence)
        warnings += _of_groups(part, name, outcome.at, n_groups)
        part.insert(0, "model", name)
        parts.append(part.drop(columns="last_exit"))
    return GroupCalibration(
        estimates=pd.concat(parts, ignore_index=True),
        at=outcome.at,
        n=columns.n,
        confidence=confidence,
        n_dropped_missing=columns.n_dropped_missing,
        warnings=tuple(warnings),
    )


def _of_groups(part: pd.DataFrame, name: str, at: float, n_groups: int) -> list[str]:
    warnings = []
    if len(part) < n_groups:
        warnings.append(f"column {name!r} has equal risks: {len(part)} groups, not {n_groups}")
    short = part.loc[part["last_exit"] < at, "group"].tolist()
    if short:
        warnings.append(
            f"column {name!r}: follow-up of groups {short} ends before {at:g}; their observed risk is that at its end"
        )
    return warnings


def _by_group(outcome: Outcome, values: Floats, n_groups: int, ci: CiKind, confidence: float) -> pd.DataFrame:
    cuts = np.unique(np.quantile(values, np.arange(1, n_groups) / n_groups))
    _, group = np.unique(np.searchsorted(cuts, values, side="left"), return_inverse=True)
    observed = _observed(outcome, group, ci, confidence)
    made = pd.DataFrame({"group": group + 1, "risk": values, "case": outcome.cases, "exit": outcome.exits}).groupby(
        "group"
    )
    found = made.agg(
        n=("risk", "size"),
        n_events=("case", "sum"),
        risk_min=("risk", "min"),
        risk_max=("risk", "max"),
        expected=("risk", "mean"),
        last_exit=("exit", "max"),
    )
    return found.reset_index().assign(
        observed=observed["cumulative_incidence"].to_numpy(),
        se=observed["se"].to_numpy(),
        observed_lo=observed["lo"].to_numpy(),
        observed_hi=observed["hi"].to_numpy(),
    )


def _observed(outcome: Outcome, group: NDArray[np.int64], ci: CiKind, confidence: float) -> pd.DataFrame:
    """Return the cumulative incidence of the event at the horizon, one row per group."""
    people = pd.DataFrame({"exit": outcome.exits, "status": outcome.statuses, "g": group})
    curves = cumulative_incidence(people, duration="exit", event="status", by="g", ci=ci, confidence=confidence)
    read = curves.at([outcome.at])
    return read[read["cause"] == 1].sort_values("g")


SMOOTHER: Final = (
    "least squares of jackknife pseudo-values of the Aalen-Johansen cumulative incidence on a "
    "restricted cubic spline of log(-log(1 - risk)), limited to 0 and 1"
)


@dataclass(frozen=True, slots=True)
class SmoothCalibration:
    """A calibration curve, and how far it is from the diagonal.

    Attributes:
        curve: one row per model and grid point: `model`, `risk`, `observed`, `se`, `observed_lo`,
            `observed_hi`.
        indices: one row per model: `model`, `ici`, `e50`, `e90`, `emax`: mean, median, 90 %
            quantile and maximum over people of |observed - predicted|.
        knots: one row per model: `model`, `knots` (predicted risks at the knots, a tuple).
        smoother: how the curve was made.
        at: the horizon.
        n: people.
        confidence: of the limits.
        n_dropped_missing: rows left out because a used column was missing.
        warnings: what to know before use.
    """

    curve: pd.DataFrame
    indices: pd.DataFrame
    knots: pd.DataFrame
    smoother: str
    at: float
    n: int
    confidence: float
    n_dropped_missing: int
    warnings: tuple[str, ...]


def smooth_calibration(
    table: pd.DataFrame,
    *,
    duration: str,
    event: str,
    risk: str | Sequence[str],
    at: float,
    event_of_interest: int = 1,
    causes: Sequence[int] = (1, 2),
    n_knots: int = 4,
    n_grid: int = 100,
    confidence: float = 0.95,
    missing: Missing = "refuse",
) -> SmoothCalibration:
    """Estimate a smooth calibration curve, and ICI, E50, E90 and Emax from it.

    The smoother: pseudo-values of the cumulative incidence at the horizon are fitted by least
    squares to a restricted cubic spline of log(-log(1 - risk)), knots at Harrell's quantiles. What
    falls below 0 or above 1 is set to 0 or 1, which is counted in the warnings. Pointwise limits
    are those of the fit, errors robust (sandwich), as if pseudo-values were independent; that is a
    little cautious. The indices have no interval; bootstrap the call for one.

    Args:
        table: one row per person.
        duration: column of the exit time, above 0.
        event: column of 0 for censored, else one of the causes.
        risk: column of predicted risks above 0 and below 1, not scores, or several.
        at: the horizon, in the unit of `duration`.
        event_of_interest: one of the causes.
        causes: codes of the events; `(1,)` without competing events.
        n_knots: 3 to 7.
        n_grid: points of the curve, evenly from the 1 % to the 99 % quantile of the risk.
        confidence: of the limits.
        missing: "refuse" or "drop".

    Returns:
        Curves and indices. The quantiles of E50 and E90 are linear between values.

    Raises:
        TableRefused: a column cannot be used, a risk is not above 0 and below 1, or has too few
            distinct values for the knots, or nobody is followed to the horizon.
        ValueError: an argument is outside its values.

    Source:
        Austin PC, Steyerberg EW, Stat Med 2019;38:4051-4065 (indices). Pseudo-values for
        calibration: Gerds TA et al., Stat Med 2014;33:3191-3203; van Geloven N et al., BMJ
        2022;377:e069249. Errors: Andersen PK, Perme MP, Stat Methods Med Res 2010;19:71-99.
        R: `pv <- prodlim::jackknife(prodlim(Hist(duration, event) ~ 1), times = at, cause = 1)`;
        `o <- fitted(lm(pv ~ Hmisc::rcspline.eval(log(-log(1 - risk)), nk = 4, inclx = TRUE)))`;
        `mean(abs(o - risk)); quantile(abs(o - risk), c(.5, .9, 1))`
    """
    z = normal_quantile(confidence)
    if isinstance(n_grid, bool) or not isinstance(n_grid, int) or n_grid < 2:
        raise ValueError(f"n_grid is {n_grid!r}, expected a whole number of 2 or more")
    columns, outcome, names = read_outcome(table, risk, duration, event, at, event_of_interest, causes, missing)
    pseudo = jackknife(outcome).values
    fits = [_smooth(columns, name, pseudo, n_knots, n_grid, z) for name in names]
    return SmoothCalibration(
        curve=pd.concat([fit.curve for fit in fits], ignore_index=True),
        indices=pd.DataFrame([{"model": fit.model, **fit.indices} for fit in fits]),
        knots=pd.DataFrame([{"model": fit.model, "knots": fit.knots} for fit in fits]),
        smoother=SMOOTHER,
        at=outcome.at,
        n=columns.n,
        confidence=confidence,
        n_dropped_missing=columns.n_dropped_missing,
        warnings=outcome.warnings() + tuple(text for fit in fits for text in fit.warnings),
    )


class _Smooth(NamedTuple):
    model: str
    curve: pd.DataFrame
    indices: dict[str, float]
    knots: tuple[float, ...]
    warnings: tuple[str, ...]


def _smooth(columns: Columns, name: str, pseudo: Floats, n_knots: int, n_grid: int, z: float) -> _Smooth:
    risk = columns.risks(name)
    columns.refuse(
        name,
        (risk <= 0) | (risk >= 1),
        "risks of exactly 0 or 1",
        "risks above 0 and below 1, for log(-log(1 - risk)); leave these rows out and count them",
    )
    columns.varying_numbers(name)
    scaled, label = _cloglog(risk), f"log(-log(1 - {name}))"
    spline = restricted_cubic_spline(pd.DataFrame({label: scaled}), column=label, n_knots=n_knots)
    x = np.column_stack([np.ones(columns.n), spline.basis(scaled)])
    bread = np.linalg.inv(x.T @ x)
    coefficients = bread @ (x.T @ pseudo)
    fitted = x @ coefficients
    residual = (pseudo - fitted)[:, None] * x
    covariance = bread @ (residual.T @ residual) @ bread
    low, high = np.quantile(risk, [0.01, 0.99])
    grid = np.linspace(low, high, n_grid)
    points = np.column_stack([np.ones(n_grid), spline.basis(_cloglog(grid))])
    observed = points @ coefficients
    se = np.sqrt(np.einsum("ij,jk,ik->i", points, covariance, points))
    outside = int(((fitted < 0) | (fitted > 1)).sum())
    away = np.abs(np.clip(fitted, 0, 1) - risk)
    half, most = np.quantile(away, [0.5, 0.9])
    curve = {
        "model": name,
        "risk": grid,
        "observed": np.clip(observed, 0, 1),
        "se": se,
        "observed_lo": np.clip(observed - z * se, 0, 1),
        "observed_hi": np.clip(observed + z * se, 0, 1),
    }
    text = f"column {name!r}: the curve leaves 0 to 1 for {outside} people and is cut off there"
    return _Smooth(
        name,
        pd.DataFrame(curve),
        {"ici": away.mean(), "e50": half, "e90": most, "emax": away.max()},
        tuple(float(knot) for knot in -np.expm1(-np.exp(spline.knots))),
        (text,) if outside else (),
    )


def _cloglog(risk: Floats) -> Floats:
    return np.asarray(np.log(-np.log1p(-risk)))
